"""An editable install is found from where a user stands, whatever the checkout is called."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_folder_above_a_checkout_named_bertlab_does_not_hide_it(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    checkout, site, wheels = tmp_path / "above" / "bertlab", tmp_path / "site", tmp_path / "wheels"
    (checkout / "bertlab").mkdir(parents=True)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "bertlab/__init__.py"):
        shutil.copy(ROOT / name, checkout / name)
    wheels.mkdir()
    build = f"from setuptools.build_meta import build_editable; build_editable({str(wheels)!r})"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", build], cwd=checkout, env=environment, check=True, capture_output=True)
    (wheel,) = wheels.iterdir()
    zipfile.ZipFile(wheel).extractall(site)
    found = f"import site; site.addsitedir({str(site)!r}); import bertlab; print(bertlab.load, bertlab.__file__)"
    for place in (checkout.parent, checkout, tmp_path):
        # -S: without the site folder of these tests, which may have a bertlab of its own
        ran = subprocess.run([sys.executable, "-S", "-c", found], cwd=place, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0 and str(checkout / "bertlab" / "__init__.py") in ran.stdout, ran.stderr
