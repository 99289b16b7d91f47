"""What is below `private` in a volume's options holds, and is not shown."""

import pytest

from router import storage

pytestmark = pytest.mark.doors("volume")

SECRET = "not-to-be-seen"


def test_a_private_password_is_used_and_not_shown(start_router):
    auth = {"transport": {"auth": {"usrpwd": {"password": SECRET}}}}
    user = {"transport": {"auth": {"usrpwd": {"user": "router-1"}}}}
    router = start_router(
        {"demo": storage("demo/**", replication={})},
        volumes={"mst": {"session": user, "private": {"session": auth}}},
        # zenohd says its whole configuration.
        environment={"RUST_LOG": "debug"},
    )
    assert router.status("demo")["configuration"]["key_expr"] == "demo/**"
    # It is there, but for what is private.
    assert "router-1" in router.log() and SECRET not in router.log()
    shown = router.request("GET", "@/local/router/**").body.decode()
    assert '"demo"' in shown and SECRET not in shown
    assert SECRET not in str(router.volume_status("mst"))


@pytest.mark.parametrize(
    "private, said",
    [
        ({"session": SECRET}, "option `session`: found in `private`, so not shown"),
        ({"session": {"mode": SECRET}}, "part of it is in `private`, so what is wrong is not shown"),
        (SECRET, "option `private`: found no object"),
    ],
)
def test_what_is_wrong_with_it_is_said_without_it(start_router, private, said):
    router = start_router(
        {"demo": storage("demo/**")}, volumes={"mst": {"private": private}}, expected=[]
    )
    router.wait_for_log(said)
    assert SECRET not in router.log()
