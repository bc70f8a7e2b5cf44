"""What the two hubs say of a repository: its files, their sizes and checksums, and where to get them.

Hugging Face is asked through its own library, which knows HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the logged-in
user. ModelScope is asked for its one listing directly, with MODELSCOPE_ENDPOINT (or the older MODELSCOPE_DOMAIN) and
MODELSCOPE_API_TOKEN: its library brings a cryptography package and a second HTTP client for that. Both libraries know
how to download, but the one of Hugging Face begins from nothing after it was stopped and checks no hash; so `download`
does that for both.
"""

import os
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import httpx2
import msgspec
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, exported by a star
from msgspec import Struct

from ownstudio.engines.weights.spec import HUB_NAMES, Hub, HubSpec, WeightsError

LISTING_TIMEOUT_S = 30.0
LISTING_MAX_BYTES = 64 * 1024**2
FILES_MAX = 100_000

MODELSCOPE = "https://modelscope.cn"


class RemoteFile(Struct, frozen=True):
    """A file of a repository. `sha256` is empty where the hub gives none; `headers` carry the credentials."""

    name: str
    size: int
    sha256: str
    url: str
    headers: Mapping[str, str]


class _ScopeFile(Struct, rename="pascal"):
    path: str = ""
    size: int = 0
    sha256: str | None = ""
    type: str = "blob"


class _ScopeFiles(Struct, rename="pascal"):
    files: list[_ScopeFile] | None = None


class _ScopeListing(Struct, rename="pascal"):
    data: _ScopeFiles | None = None


def list_files(spec: HubSpec) -> list[RemoteFile]:
    """All files of a repository's main branch. Raises WeightsError."""
    return _HUBS[spec.hub](spec.repo)


def _hugging_face(repo: str) -> list[RemoteFile]:
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
    try:
        entries = HfApi(endpoint=endpoint).list_repo_tree(repo, recursive=True)
        found = [entry for entry in entries if isinstance(entry, RepoFile)]
    except GatedRepoError:
        raise WeightsError(
            f"hf:{repo} is only for users who accepted its terms: accept them on {endpoint}/{repo}, then set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise WeightsError(
            f"hf:{repo} does not exist, or is private: check its name, or set HF_TOKEN"
        ) from None
    except OfflineModeIsEnabled:
        raise WeightsError(f"hf:{repo} cannot be pulled: HF_HUB_OFFLINE is set") from None
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise _unreachable("hf", endpoint, error) from None
    headers = build_hf_headers(library_name="ownstudio")
    return [
        RemoteFile(
            name=entry.path,
            size=entry.size,
            sha256=entry.lfs.sha256 if entry.lfs else "",
            url=hf_hub_url(repo, entry.path, endpoint=endpoint),
            headers=headers,
        )
        for entry in found
    ]


def _modelscope(repo: str) -> list[RemoteFile]:
    endpoint = _modelscope_endpoint(os.environ)
    token = os.environ.get("MODELSCOPE_API_TOKEN", "")
    # Some of its endpoints look at the cookie, the others at the header.
    headers = (
        {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
    )
    base = f"{endpoint}/api/v1/models/{quote(repo)}/repo"
    try:
        response = httpx2.get(
            f"{base}/files?Revision=master&Recursive=True",
            headers=headers,
            timeout=LISTING_TIMEOUT_S,
            follow_redirects=True,
        )
        if response.status_code in {401, 403, 404}:
            raise WeightsError(
                f"ms:{repo} does not exist, or is private: check its name, or set MODELSCOPE_API_TOKEN"
            )
        response.raise_for_status()
        listing = msgspec.json.decode(response.content, type=_ScopeListing)
    except (httpx2.HTTPError, OSError, msgspec.MsgspecError) as error:
        raise _unreachable("ms", endpoint, error) from None
    found = (listing.data and listing.data.files) or []
    return [
        RemoteFile(
            name=entry.path,
            size=entry.size,
            sha256=(entry.sha256 or "").lower(),
            url=f"{base}?{urlencode({'Revision': 'master', 'FilePath': entry.path})}",
            headers=headers,
        )
        for entry in found
        if entry.type == "blob"
    ]


def _modelscope_endpoint(environ: Mapping[str, str]) -> str:
    place = environ.get("MODELSCOPE_ENDPOINT") or environ.get("MODELSCOPE_DOMAIN") or MODELSCOPE
    return (place if "://" in place else f"https://{place}").rstrip("/")


def _unreachable(hub: Hub, endpoint: str, error: Exception) -> WeightsError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return WeightsError(
        f"{HUB_NAMES[hub]} at {endpoint} could not be asked: {reason}; check the network and its proxy variables"
    )


_HUBS = {"hf": _hugging_face, "ms": _modelscope}
