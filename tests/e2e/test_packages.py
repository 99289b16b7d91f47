"""The packages of `make dist`, of what is built already: what is in them, and that they can be
installed, started, upgraded and removed."""

import os
import re
import shutil
import subprocess
import tarfile
import time

import pytest

from conftest import REPOSITORY
from polling import PATIENCE, wait_until
from router import free_port

NAME = r"zenoh-mst-{version}\+zenoh\.1\.10\.2-[\w-]+"

#: What is in it. Of manual pages, documents and examples there are as many as there are.
FILES = """
etc/zenoh-mst/router.json5
usr/bin/mst-router
usr/bin/mstctl
usr/lib/systemd/system/zenoh-mst.service
usr/lib/zenoh-mst/libzenoh_backend_mst.so
usr/lib/zenoh-mst/libzenoh_plugin_mst.so
usr/lib/zenoh-mst/libzenoh_plugin_rest.so
usr/lib/zenoh-mst/libzenoh_plugin_storage_manager.so
usr/share/bash-completion/completions/mstctl
usr/share/fish/vendor_completions.d/mstctl.fish
usr/share/zsh/vendor-completions/_mstctl
usr/share/man/man1/mst-router.1
usr/share/man/man1/mstctl.1
usr/share/man/man1/mstctl-check-config.1
usr/share/zenoh-mst/alerts.yml
usr/share/zenoh-mst/grafana-dashboard.json
usr/share/zenoh-mst/prometheus.yml
usr/share/zenoh-mst/schema.json
usr/share/doc/zenoh-mst/CHANGELOG.md
usr/share/doc/zenoh-mst/LICENSE
usr/share/doc/zenoh-mst/LICENSE-APACHE
usr/share/doc/zenoh-mst/LICENSE-EPL
usr/share/doc/zenoh-mst/NOTICE.md
usr/share/doc/zenoh-mst/README.md
usr/share/doc/zenoh-mst/THIRD-PARTY.txt
usr/share/doc/zenoh-mst/copyright
usr/share/doc/zenoh-mst/operators.md
usr/share/doc/zenoh-mst/sbom.cdx.json
usr/share/doc/zenoh-mst/examples/fleet.json5
usr/share/doc/zenoh-mst/examples/secured.json5
usr/share/doc/zenoh-mst/examples/zenohd.json5
""".split()

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb makes the package, and is not there"
)


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=110, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A tarball and a Debian package."""
    folder = tmp_path_factory.mktemp("dist")
    made = run(REPOSITORY / "scripts/dist", "--quick", "--to", folder).split()
    assert len(made) == 2 and all(re.search(NAME.format(version=r"0\.1\.0"), name) for name in made)
    yield made
    shutil.rmtree(folder)


@needs_dpkg
def test_the_packages_have_what_they_should(packages):
    archive, package = packages
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile()]
        assert {member.uid for member in members} == {0}
        [top] = {member.name.split("/")[0] for member in members}
        in_tar = {member.name.removeprefix(f"{top}/"): member.mode for member in members}
    assert set(FILES) <= in_tar.keys()
    further = {
        name
        for name in in_tar.keys() - set(FILES)
        if not re.match(r"usr/share/(man/man1/mstctl-\S+\.1|doc/zenoh-mst/[\w-]+\.md)$", name)
    }
    assert not further
    assert in_tar["usr/bin/mstctl"] == 0o755 and in_tar["etc/zenoh-mst/router.json5"] == 0o644

    listed = run("dpkg-deb", "--contents", package)
    in_deb = set(re.findall(r"^-.* \./(\S+)$", listed, re.MULTILINE))
    assert in_deb == in_tar.keys()
    assert "libc6 (>= 2." in run("dpkg-deb", "--field", package, "Depends")


@needs_dpkg
@pytest.mark.skipif(os.geteuid() != 0, reason="dpkg --root needs root")
def test_the_package_is_installed_started_upgraded_and_removed(packages, tmp_path):
    root = tmp_path / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/updates").mkdir()
    (root / "var/lib/dpkg/status").touch()

    def dpkg(*arguments):
        # There is nothing else in this root, so its scripts run outside of it.
        return run(
            "dpkg",
            f"--root={root}",
            f"--log={tmp_path}/dpkg.log",
            "--force-depends,script-chrootless,confold",
            *arguments,
        )

    begun = time.monotonic()
    dpkg("--install", packages[1])
    installed = time.monotonic()
    for name in FILES:
        assert (root / name).is_file(), name
    configuration = root / "etc/zenoh-mst/router.json5"
    checked = run(root / "usr/bin/mstctl", "check-config", configuration)
    assert "storage 'demo', plugin: demo/**" in checked
    examples = root / "usr/share/doc/zenoh-mst/examples"
    assert '"/usr/lib/zenoh-mst"' in (examples / "fleet.json5").read_text()

    # As the service starts it, but for where it listens and keeps its data.
    service = (root / "usr/lib/systemd/system/zenoh-mst.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)
    program, *arguments = command.split()
    assert arguments == ["-c", "/etc/zenoh-mst/router.json5"]
    port = free_port()
    endpoint = f"tcp/127.0.0.1:{port}"
    rest = f"127.0.0.1:{free_port()}"
    mstctl = (root / "usr/bin/mstctl", "-e", endpoint)
    started = time.monotonic()
    with open(tmp_path / "log", "wb") as log:
        router = subprocess.Popen(
            [
                root / program[1:],
                "-c",
                configuration,
                *("-l", endpoint, "--rest-http-port", rest),
                "--no-multicast-scouting",
            ],
            env={
                **os.environ,
                "ZENOH_HOME": str(tmp_path / "home"),
                "ZENOH_BACKEND_MST_ROOT": str(tmp_path / "storages"),
            },
            stdout=log,
            stderr=log,
        )
    try:

        def is_up():
            assert router.poll() is None, (tmp_path / "log").read_text()
            done = subprocess.run([*mstctl, "status"], capture_output=True, text=True, timeout=60)
            return done.returncode == 0 and "demo/**" in done.stdout

        wait_until(is_up, lambda: f"it is up\n{(tmp_path / 'log').read_text()}")
        greeting = f"http://{rest}/demo/greeting"
        run("curl", "-sS", "--fail", "-X", "PUT", "-H", "content-type: text/plain", "-d", "hello", greeting)
        wait_until(lambda: run("curl", "-sS", f"{greeting}?_raw") == "hello", "it is stored")
        # From the package to what a client reads: so long a newcomer waits.
        took = installed - begun + time.monotonic() - started
        print(f"from the package to the first get: {took:.1f} s")
        assert took < 60
    finally:
        router.terminate()
        router.wait(PATIENCE)
    assert (tmp_path / "storages/demo/FORMAT").is_file()

    # What was changed is kept by an upgrade, and by a removal.
    configuration.write_text(configuration.read_text() + "// mine\n")
    later = tmp_path / "later.deb"
    make_later(packages[1], later, tmp_path / "unpacked")
    dpkg("--install", later)
    assert configuration.read_text().endswith("// mine\n")
    assert "0.1.1" in run("dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "zenoh-mst")
    dpkg("--remove", "zenoh-mst")
    assert not (root / "usr/bin/mstctl").exists() and configuration.is_file()
    dpkg("--purge", "zenoh-mst")
    assert not configuration.exists()


def make_later(package, later, folder):
    """The same package as one of the next version, without its large files: those are not looked at."""
    run("dpkg-deb", "--raw-extract", package, folder)
    shutil.rmtree(folder / "usr/lib/zenoh-mst")
    control = folder / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: 0.1.0", "Version: 0.1.1"))
    run("dpkg-deb", "-Zgzip", "-z1", "--build", folder, later)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_the_service_is_sound_and_hardened(tmp_path):
    text = (REPOSITORY / "packaging/zenoh-mst.service").read_text()
    unit = tmp_path / "zenoh-mst.service"
    unit.write_text(text.replace("/usr/bin/mst-router", shutil.which("true")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    # Of other units of this machine it may complain.
    assert done.returncode == 0 and "zenoh-mst" not in done.stderr, done.stderr
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert security.returncode == 0, security.stdout
