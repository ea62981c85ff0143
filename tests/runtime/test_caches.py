"""Where files are kept: as the variables say, and for users without a home."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import pytest
from hub_server import HF, home, manifest, publish, server  # noqa: F401

from miniclip import InputError
from miniclip.fetch import hub
from miniclip.runtime import caches


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"MINICLIP_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"MINICLIP_CACHE": "~/a", "HOME": "/c"}, "/c/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/miniclip"),
        ({"HOME": "/c"}, "/c/.cache/miniclip"),
        ({"MINICLIP_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/miniclip"),  # set, but empty
    ],
)
def test_the_cache_is_where_the_variables_say(monkeypatch, variables, expected):
    for name in ("MINICLIP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert caches.cache_directory().as_posix() == expected


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home, as in some containers: HOME is not set, and the system does not list the user."""
    pwd = pytest.importorskip("pwd")

    def unknown(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_the_cache_of_the_variable_is_used(home, server, manifest, homeless):
    assert hub.find("ViT-B/32") == home / "cache" / "ViT-B-32.pt"
    publish(server, HF)
    assert hub.find("owner/name").is_relative_to(home / "cache")


@pytest.mark.parametrize("name", ["ViT-B/32", "owner/name"])
def test_without_a_home_and_a_cache_the_error_asks_for_one(server, manifest, homeless, monkeypatch, name):
    monkeypatch.delenv("MINICLIP_CACHE")
    with pytest.raises(InputError, match="there is no home directory: set MINICLIP_CACHE"):
        hub.find(name)
    assert hub.find("shapes").exists() and server.asked == []


def test_without_a_home_root_is_enough(home, server, manifest, homeless, monkeypatch):
    monkeypatch.delenv("MINICLIP_CACHE")
    publish(server, HF)
    for name in ("ViT-B/32", "owner/name"):
        assert hub.find(name, home / "root").is_relative_to(home / "root")
