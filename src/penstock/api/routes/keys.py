"""/v1/keys and /v1/tokens: managed keys, made and ended while the server runs, and the end of task tokens."""

from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import FromPath, QueryParameter

from penstock.api.auditing import write_down
from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import json_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.problems import documented
from penstock.api.http.scopes import ADMIN
from penstock.api.schemas.access_keys import NAME_PATTERN, KeyList, KeyRequest, KeyView, NewKeyView, TokensRevokedView
from penstock.api.schemas.render_keys import key_view
from penstock.api.services import Services, ServicesDep
from penstock.core.access_keys import AccessKey, PresentedKey, new_access_key
from penstock.errors import AccessKeyNotFound, AccessKeyReplaced, InvalidRequest, MalformedRequest, UnsupportedMediaType

OVERLAP_S = 86_400
LONGEST_OVERLAP_S = 90 * 86_400

EVERYWHERE = "Every API process goes by it at once, and within 5 s where its message was lost. "
OfTenant = QueryParameter(pattern=NAME_PATTERN)

NOT_STORED = {"Cache-Control": "no-store"}
"""Of the answers that have a key in them: no cache may keep them."""


@post(
    "/keys",
    operation_id="createKey",
    tags=["keys"],
    summary="Make an API key",
    description="The answer has the text of the key, once: only a digest of it is stored. " + EVERYWHERE,
    opt=ADMIN | describe(body={JSON: KeyRequest}),
    status_code=201,
    responses=documented(MalformedRequest, UnsupportedMediaType, InvalidRequest),
)
async def create_key(request: ApiRequest, services: ServicesDep) -> Response[NewKeyView]:
    """Answers 201. A repeat makes another key."""
    asked = await json_of(request, KeyRequest)
    (text, new), now = new_access_key(), await services.home.access_keys.now_ms()
    key = _key_of(asked, new, by=request.auth.id, now=now)
    await services.home.access_keys.create(key)
    await _read_again(request, services)
    said = {"scopes": asked.scopes, "expires_in_s": asked.expires_in_s}
    await write_down("key.create", key.id, request, services, of_tenant=key.tenant, name=key.name, **said)
    headers = NOT_STORED | {"Location": f"/v1/keys/{key.id}"}
    return Response(NewKeyView(key=text, record=key_view(key, None, now=now), replaced=None), headers=headers)


@get(
    "/keys",
    operation_id="listKeys",
    tags=["keys"],
    summary="List the API keys",
    description="The newest first, with those that ended within 90 days; no secret is shown. Keys of `API_KEYS` are "
    "not among them: they are settings.",
    opt=ADMIN,
)
async def list_keys(services: ServicesDep, tenant: Annotated[str | None, OfTenant] = None) -> KeyList:
    """Lists the keys of all tenants, or of one."""
    now = await services.home.access_keys.now_ms()
    rows = await services.home.access_keys.listed()
    return KeyList(data=tuple(key_view(key, used, now=now) for key, used in rows if tenant in (None, key.tenant)))


@get(
    "/keys/{key_id:str}",
    operation_id="getKey",
    tags=["keys"],
    summary="Read an API key",
    opt=ADMIN,
    responses=documented(AccessKeyNotFound),
)
async def read_key(services: ServicesDep, key_id: FromPath[str]) -> KeyView:
    """Answers everything but the secret, which nobody knows."""
    return await _view(await services.home.access_keys.get(key_id), services)


@post(
    "/keys/{key_id:str}/rotate",
    operation_id="rotateKey",
    tags=["keys"],
    summary="Replace an API key",
    description="Makes a key that may do as much, for as long, and is the same caller; the answer has its text, once. "
    "The old one works for `overlap_s` more, so that clients can change over without an error. " + EVERYWHERE,
    opt=ADMIN,
    status_code=200,
    responses=documented(AccessKeyNotFound, AccessKeyReplaced, InvalidRequest),
)
async def rotate_key(
    request: ApiRequest,
    services: ServicesDep,
    key_id: FromPath[str],
    overlap_s: Annotated[int, QueryParameter(ge=0, le=LONGEST_OVERLAP_S)] = OVERLAP_S,
) -> Response[NewKeyView]:
    """Answers 409 for a key that was replaced before."""
    (text, new), now = new_access_key(), await services.home.access_keys.now_ms()
    old, key = await services.home.access_keys.rotate(
        key_id, new, by=request.auth.id, at=now, overlap_ms=1000 * overlap_s
    )
    await _read_again(request, services)
    said = {"replaced_by": key.id, "overlap_s": overlap_s}
    await write_down("key.rotate", key_id, request, services, of_tenant=key.tenant, **said)
    view = NewKeyView(key=text, record=key_view(key, None, now=now), replaced=await _view(old, services))
    return Response(view, headers=NOT_STORED | {"Location": f"/v1/keys/{key.id}"})


@delete(
    "/keys/{key_id:str}",
    operation_id="revokeKey",
    tags=["keys"],
    summary="Revoke an API key",
    description="The key works no longer, and event streams that it has opened end. It can be repeated safely. "
    + EVERYWHERE,
    opt=ADMIN,
    status_code=200,
    responses=documented(AccessKeyNotFound),
)
async def revoke_key(request: ApiRequest, services: ServicesDep, key_id: FromPath[str]) -> KeyView:
    """Answers the key as it is now."""
    keys = services.home.access_keys
    key = await keys.revoke(key_id, at=await keys.now_ms())
    await _read_again(request, services)
    await write_down("key.revoke", key_id, request, services, of_tenant=key.tenant)
    return await _view(key, services)


@post(
    "/tokens/revoke",
    operation_id="revokeTokens",
    tags=["keys"],
    summary="Revoke all task tokens of a tenant",
    description="Those that its submits were answered so far open nothing any more; later ones do. " + EVERYWHERE,
    opt=ADMIN,
    status_code=200,
    responses=documented(InvalidRequest),
)
async def revoke_tokens(
    request: ApiRequest, services: ServicesDep, tenant: Annotated[str, OfTenant]
) -> TokensRevokedView:
    """Answers the tenant, also for one that has none."""
    await services.home.access_keys.revoke_tokens(tenant)
    await _read_again(request, services)
    await write_down("tokens.revoke", tenant, request, services)
    return TokensRevokedView(tenant=tenant)


def _key_of(asked: KeyRequest, new: PresentedKey, *, by: str, now: int) -> AccessKey:
    return AccessKey(
        id=new.id,
        digest=new.digest.hex(),
        tenant=asked.tenant,
        name=asked.name or new.id,
        scopes=tuple(dict.fromkeys(asked.scopes)),
        created=now,
        created_by=by,
        expires=now + 1000 * asked.expires_in_s if asked.expires_in_s else None,
    )


async def _read_again(request: ApiRequest, services: Services) -> None:
    """Let this process, at least, go by the change before it is answered."""
    await request.app.state.key_table.read(services.home.access_keys)


async def _view(key: AccessKey, services: Services) -> KeyView:
    keys = services.home.access_keys
    return key_view(key, await keys.last_used(key.id), now=await keys.now_ms())
