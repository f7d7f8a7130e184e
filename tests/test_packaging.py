"""What is installed is what is written: metadata, extras, contents of the archives, and what an import costs."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KINDS = {".npz", ".yaml", ".j2", ".css"}  # of the files that the package ships beside its code
HEAVY = ["tensorflow", "keras", "timm", "torchattacks", "pyautoattack", "matplotlib", "torchvision"]


@pytest.fixture(scope="module")
def installed() -> Distribution:
    try:
        return importlib.metadata.distribution("art-ext")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("art-ext is not installed: pip install -e '.[dev]'")


def requirements(dist: Distribution, extra: str | None = None) -> set[str]:
    """Names of the distributions required without an extra, or by one."""
    wanted = set()
    for line in dist.requires or []:
        requirement, _, marker = line.partition(";")
        if (f'extra == "{extra}"' in marker) if extra else "extra" not in marker:
            name, extras = re.match(r"([\w.-]+)(?:\[(.*?)\])?", requirement).groups()  # type: ignore[union-attr]
            itself = name == dist.name
            wanted |= set().union(*(requirements(dist, e) for e in extras.split(","))) if itself else {name.lower()}
    return wanted


@pytest.mark.parametrize(
    "extra,brings",
    [
        ("torchattacks", {"torchattacks"}),
        ("autoattack", {"pyautoattack"}),
        ("tensorboard", {"tensorboard"}),
        ("webdataset", {"webdataset"}),
        ("completion", {"shtab"}),
        ("all", {"torchattacks", "pyautoattack", "tensorboard", "webdataset"}),
        ("dev", {"torchattacks", "pyautoattack", "tensorboard", "webdataset"}),
        ("dev", {"pytest", "hypothesis", "pytest-xdist", "ruff", "mypy", "build"}),
    ],
)
def test_extras(installed: Distribution, extra: str, brings: set[str]) -> None:
    assert brings <= requirements(installed, extra)
    assert not brings & requirements(installed)


def test_console_script(installed: Distribution) -> None:
    scripts = {entry.name: entry.value for entry in installed.entry_points if entry.group == "console_scripts"}
    assert scripts == {"art-ext": "art_ext.cli:main"}


def test_versions_agree(installed: Distribution) -> None:
    import art_ext

    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation is not None
    assert art_ext.__version__ == installed.version == citation[1]


def imported_modules() -> Iterator[tuple[str, str]]:
    """Every top-level module that a file of the package imports, at its head or in a function."""
    for path in [*(ROOT / "art_ext").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            yield from ((name.split(".")[0], path.relative_to(ROOT).as_posix()) for name in names)


def test_every_import_is_a_declared_dependency(installed: Distribution) -> None:
    declared = requirements(installed) | requirements(installed, "all")
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        (module, file)
        for module, file in imported_modules()
        if module not in {*sys.stdlib_module_names, "art_ext"}
        and not {name.lower() for name in providers.get(module, [module])} & declared
    }
    assert not undeclared


@pytest.fixture(scope="module")
def attempted_imports() -> set[str]:
    """Top-level modules that ``import art_ext`` looks for, installed or not."""
    code = """if True:
        import json, sys
        looked_for = set()
        class Listener:
            @staticmethod
            def find_spec(name, path=None, target=None):
                looked_for.add(name.partition(".")[0])
        sys.meta_path.insert(0, Listener)
        import art_ext
        print(json.dumps(sorted(looked_for)))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", HEAVY)
def test_import_leaves_alone(module: str, attempted_imports: set[str]) -> None:
    assert "art_ext" in attempted_imports
    assert module not in attempted_imports


def test_python_dash_m_is_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "art_ext", "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "art-ext" in run.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from it; built from a copy, so that the checkout stays clean."""
    pytest.importorskip("build")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
        elif path.name in {"art_ext", "adapters", "tests", "examples"}:
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


def sources(prefix: str = "") -> set[str]:
    """All that must be in an archive, where ``prefix`` is what the folder ``adapters`` lies in."""
    code = {p.relative_to(ROOT).as_posix() for p in (ROOT / "art_ext").rglob("*.py")}
    adapters = {prefix + p.relative_to(ROOT).as_posix() for p in (ROOT / "adapters").rglob("*.py")}
    data = {p.relative_to(ROOT).as_posix() for p in (ROOT / "art_ext").rglob("*") if p.suffix in KINDS}
    return code | adapters | data | {"art_ext/py.typed", "art_ext/datasets/LICENSE.fashion-mnist"}


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert files == sources(prefix="art_ext/")


@pytest.mark.slow
def test_sdist_holds_sources_and_tests(archives: Path) -> None:
    (sdist,) = archives.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert sources() <= files
    assert {"LICENSE", "README.md", "CHANGELOG.md", "tests/conftest.py", "tests/test_packaging.py"} <= files
