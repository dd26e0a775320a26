"""Who may do what: dependencies of the endpoints that check the key of a request."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from xvectors.serve.guarding.keys import DEFAULT_TENANT
from xvectors.serve.problems import Problem, request_id_of
from xvectors.serve.service import Caller, Service

_bearer = HTTPBearer(auto_error=False, description="A key of `xvectors keys add`; not needed where there are none.")


def service_of(request: Request) -> Service:
    """Return the service of the application."""
    return cast(Service, request.app.state.service)


def _needs(scope: str) -> Callable[..., Caller]:
    def caller(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        return caller_of(service_of(request), credentials, scope, request_id_of(request))

    return caller


def caller_of(
    service: Service, credentials: HTTPAuthorizationCredentials | None, scope: str, request_id: str
) -> Caller:
    """Return who a request is of. Raises Problem where it has no key, or one without the scope."""
    if service.keys is None:
        return Caller(tenant=DEFAULT_TENANT, key_id=None, request_id=request_id)
    remedy = "send a key as `Authorization: Bearer xv_...`; the service's operator makes keys"
    challenge = {"WWW-Authenticate": "Bearer"}
    if credentials is None:
        raise Problem("no-key", "the request has no key", remedy, headers=challenge)
    key = service.keys.find(credentials.credentials, datetime.now(UTC))
    if key is None:
        raise Problem("no-key", "the key is unknown or has expired", remedy, headers=challenge)
    if scope not in key.scopes:
        raise Problem("forbidden", f"the key lacks the scope {scope}", "use a key that has it")
    return Caller(tenant=key.tenant, key_id=key.id, request_id=request_id)


Served = Annotated[Service, Depends(service_of)]
Reader = Annotated[Caller, Depends(_needs("read"))]
Enroller = Annotated[Caller, Depends(_needs("enroll"))]
Forgetter = Annotated[Caller, Depends(_needs("forget"))]
Operator = Annotated[Caller, Depends(_needs("operate"))]
