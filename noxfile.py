"""The suite on the torch versions that are supported: ``nox``, or ``nox -s "tests(torch='2.6.0')"``.

The oldest supported, the one development and CI use, and the newest that was tried. Each has an environment of its own.
``nox -s cells`` records, for each, what of PyTorch works with our layers (docs/pytorch.md). CI runs the middle one
alone, by ``make test``: builds of torch take gigabytes, and a run of all three most of an hour.
"""

import nox

TORCH = ["2.6.0", "2.13.0", "2.14.1"]
NEEDS_ITS_OWN = ("torch", "triton")  # what constraints.txt pins for development
nox.options.sessions = ["tests"]


def install(session: nox.Session, torch: str) -> None:
    """This torch first, so that nothing else picks one; then all that the tests need."""
    session.install(f"torch=={torch}")
    constraints = session.create_tmp() + "/constraints.txt"
    with open("constraints.txt", encoding="utf-8") as ours, open(constraints, "w", encoding="utf-8") as theirs:
        theirs.writelines(line for line in ours if not line.startswith(NEEDS_ITS_OWN))
        theirs.write(f"torch=={torch}\n")
    session.install("--editable", ".[dev]", "-c", constraints)


@nox.session
@nox.parametrize("torch", TORCH)
def tests(session: nox.Session, torch: str) -> None:
    """All of them."""
    install(session, torch)
    session.run("python", "-m", "pytest", "-n", "2", "-m", "", *session.posargs)


@nox.session
@nox.parametrize("torch", TORCH)
def cells(session: nox.Session, torch: str) -> None:
    """Those that decide cells of the table, one at a time: what they found is written at the end."""
    install(session, torch)
    session.run("python", "-m", "pytest", "-m", "cell", "--record-cells", *session.posargs)
    session.run("python", "-m", "examples.pytorch")


@nox.session
def gpu_day(session: nox.Session) -> None:
    """The day with a GPU, without one, on the versions of a machine that was lent: torch 2.11 and Triton 3.6."""
    session.install("torch==2.11.0", "triton==3.6.0")
    session.install("hypothesis", "matplotlib", "mpmath", "pytest", "tqdm")
    env = {"PYTHONPATH": "src"}  # nothing of ours is installed there
    session.run("python", "-m", "benchmarks.gpu_day", "--dry-run", "--out", session.create_tmp(), env=env)
