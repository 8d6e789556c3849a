"""Serve the flow as the deployment ``tune/probe``, as a user's script would."""

from __future__ import annotations

from prefect import serve
from prefect.deployments.runner import EntrypointType

from flows._flow import tune_flow

if __name__ == "__main__":
    serve(tune_flow.to_deployment("probe", entrypoint_type=EntrypointType.MODULE_PATH))
