"""Which of MLflow's errors are for good."""

from __future__ import annotations

import pytest

from tests.tracking.fake_mlflow import Away
from tracking._errors import is_permanent


def error(code: str, message: str) -> Exception:
    """An error as MLflow raises it."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    return MlflowException(message, ErrorCode.Value(code))


def of_database(kind: str, said: str) -> Exception:
    """An error of its database as MLflow's server passes it on."""
    import sqlalchemy

    statement = "INSERT INTO tags (key, value, run_uuid) VALUES (%s, %s, %s)"
    return error("BAD_REQUEST", str(getattr(sqlalchemy.exc, kind)(statement, {}, Exception(said))))


@pytest.mark.parametrize(
    ("raised", "permanent"),
    [
        (of_database("InternalError", "cannot execute INSERT in a read-only transaction"), False),
        (of_database("InterfaceError", "connection already closed"), False),
        (of_database("DatabaseError", "error with status PGRES_TUPLES_OK and no message"), False),
        (of_database("ProgrammingError", "permission denied for table tags"), False),
        (of_database("DataError", "value too long for type character varying(250)"), True),
        (of_database("IntegrityError", "violates foreign key constraint"), True),
        (error("INVALID_PARAMETER_VALUE", "Changing param values is not allowed"), True),
        (error("RESOURCE_DOES_NOT_EXIST", "Run with id=1 not found"), True),
        (error("INTERNAL_ERROR", "boom"), False),
        (error("PERMISSION_DENIED", "the token has expired"), False),
        (error("BAD_REQUEST", "QueuePool limit of size 5 overflow 10 reached"), False),
        (error("RESOURCE_DOES_NOT_EXIST", "API request to endpoint /api failed with error code 404"), False),
        (Away("connection refused"), False),
        (PermissionError(13, "Permission denied", "/artifacts"), True),
    ],
)
def test_what_is_worth_repeating(raised: Exception, permanent: bool) -> None:
    """What MLflow itself has understood and refused is not; outages, proxies and full pools are."""
    assert is_permanent(raised) is permanent
