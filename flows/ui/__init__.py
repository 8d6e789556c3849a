"""The study pages: ``mlflow server --app-name hpo`` serves MLflow's own pages, and ours below ``/hpo``.

MLflow finds the two factories by entry points of the group ``mlflow.app``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["create_app", "create_app_with_basic_auth"]


def create_app() -> Any:
    """MLflow's server application with the study pages."""
    from mlflow.server.fastapi_app import create_fastapi_app

    from flows.ui._routes import add_pages

    return add_pages(create_fastapi_app(), protected=False)


def create_app_with_basic_auth() -> Any:
    """The same behind MLflow's basic auth: who may not read an experiment sees none of its studies."""
    from mlflow.server import app
    from mlflow.server.auth import create_app as create_protected

    from flows.ui._routes import add_pages

    return add_pages(create_protected(app), protected=True)
