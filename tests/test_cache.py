"""The cache and the build under everything that can go wrong: the numbers are right each time.

Each scenario runs in processes of its own, with a cache folder of its own.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import anyconv
from anyconv import store

CALL = """
    import os, sys, threading, torch, anyconv
    x, w = torch.linspace(-2, 2, 50).reshape(1, 2, 5, 5), torch.linspace(-1, 1, 36).reshape(2, 2, 3, 3)
    def call(backend="auto"):
        return anyconv.conv2d(x, w, lambda x, w: torch.exp(-((x - w) ** 2)) + 0.125, padding=1, backend=backend)
    def right():
        torch.testing.assert_close(call(), call("reference"))
    right()
    print("right")
"""


def run(cache, code="", arguments=(), **environment):
    """Run the call above, then more code, in a process of its own; what it printed and warned of."""
    env = {**os.environ, "ANYCONV_CACHE_DIR": str(cache), **{k: str(v) for k, v in environment.items()}}
    program = textwrap.dedent(CALL) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=env, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("right\n")
    return done


def entries(cache):
    return [e for e in cache.iterdir() if (e / "kernel.so").exists()]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with the kernel of the call in it."""
    cache = tmp_path_factory.mktemp("filled") / "cache"
    run(cache)
    return cache


@pytest.fixture
def cache(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "cache")


def test_a_second_process_builds_nothing(cache):
    (entry,) = entries(cache)
    before = (entry / "kernel.so").stat().st_mtime_ns
    done = run(
        cache,
    )
    assert done.stderr == ""
    assert (entry / "kernel.so").stat().st_mtime_ns == before
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


@pytest.mark.thorough
def test_verbose_names_the_source(cache):
    done = run(cache, ANYCONV_VERBOSE=1)
    (line,) = done.stderr.splitlines()
    path = line.split(": ")[2].split(",")[0]
    assert line.startswith("anyconv: y = sum(exp(-(x - w) ** 2) + 0.125), forward (lanes of sites) in float32: ")
    assert Path(path).read_text().startswith("// y = sum(exp(-(x - w) ** 2) + 0.125)\n")


@pytest.mark.thorough
def test_training_builds_both_passes_side_by_side(tmp_path):
    """Each compiler waits for the other; one after the other they would wait in vain, and fail."""
    pair = tmp_path / "c++"
    pair.write_text(f"""#!/bin/sh
        [ "$1" = --version ] && exec g++ --version
        touch "{tmp_path}/on-$$"
        for i in $(seq 200); do [ $(ls "{tmp_path}" | grep -c on-) = 2 ] && exec g++ "$@"; sleep 0.05; done
        exit 1""")
    pair.chmod(0o755)
    done = run(tmp_path / "cache", """
        os.environ["ANYCONV_CXX"] = sys.argv[1]
        v, u = x.clone().requires_grad_(), w.clone().requires_grad_()
        def train(backend):
            y = anyconv.conv2d(v, u, lambda x, w: torch.tanh(x * w) + 0.25, backend=backend)
            return torch.autograd.grad(y.sum(), (v, u))
        torch.testing.assert_close(train("cpp"), train("reference"))
        """, arguments=(str(pair),))  # fmt: skip
    assert done.stderr == ""
    assert len(entries(tmp_path / "cache")) == 3


@pytest.mark.thorough
def test_a_pass_that_cannot_be_built(tmp_path):
    """Inference needs one pass; training falls back as a whole when the other fails."""
    half = tmp_path / "c++"
    half.write_text("""#!/bin/sh
        for file in "$@"; do case $file in *kernel.cpp) grep -q backward_entry "$file" && exit 1;; esac; done
        exec g++ "$@\"""")
    half.chmod(0o755)
    done = run(tmp_path / "cache", """
        assert torch.equal(call("cpp"), call())
        w.requires_grad_()
        (found,) = torch.autograd.grad(call().sum(), w)
        (want,) = torch.autograd.grad(call("reference").sum(), w)
        assert torch.equal(found, want)
        """, ANYCONV_CXX=half)  # fmt: skip
    assert done.stderr.count("UserWarning") == 1
    assert "The reference backend computes instead" in done.stderr


@pytest.mark.sample(2)
@pytest.mark.parametrize("compiler", ["/no/such/compiler", "false"])
def test_no_compiler(tmp_path, compiler):
    done = run(tmp_path / "cache", "right()", ANYCONV_CXX=compiler)
    assert done.stderr.count("UserWarning") == 1
    assert f"the C++ compiler that ANYCONV_CXX names does not run: {compiler}" in done.stderr
    assert "The reference backend computes instead" in done.stderr


@pytest.mark.thorough
def test_a_compiler_that_fails(tmp_path):
    fake = tmp_path / "c++"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo fake 1.0 && exit 0\necho it broke >&2\nexit 1\n')
    fake.chmod(0o755)
    done = run(tmp_path / "cache", "right()", ANYCONV_CXX=fake)
    assert done.stderr.count("UserWarning") == 1
    assert "it broke" in done.stderr
    assert entries(tmp_path / "cache") == []


@pytest.mark.thorough
def test_a_required_backend_says_why_it_cannot(tmp_path):
    done = run(tmp_path / "cache", """
        try:
            call("cpp")
        except anyconv.AnyConvError as error:
            print(error)
        """, ANYCONV_CXX="/no/such/compiler")  # fmt: skip
    assert "the cpp backend has no kernel for y = sum(exp(-(x - w) ** 2) + 0.125): the C++ compiler that" in done.stdout


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "damage",
    [
        "truncate",
        "checksum",
        *(pytest.param(how, marks=pytest.mark.thorough) for how in ("remove", "garbage", "folder")),
    ],
)
def test_a_damaged_entry_is_built_anew(cache, damage):
    (entry,) = entries(cache)
    library, checksum = entry / "kernel.so", entry / "kernel.sha256"
    {
        "truncate": lambda: library.write_bytes(library.read_bytes()[:1000]),
        "remove": library.unlink,
        "garbage": lambda: library.write_bytes(b"no library"),
        "checksum": checksum.unlink,
        "folder": lambda: (shutil.rmtree(entry), entry.write_text("a file")),
    }[damage]()
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    assert run(cache).stderr == ""
    assert store._is_whole(entry)


@pytest.mark.thorough
def test_an_unwritable_cache(tmp_path, monkeypatch):
    if os.getuid() == 0:
        place = tmp_path / "file"
        place.write_text("no folder")  # root may write anywhere, but not make a folder of a file
    else:
        place = tmp_path / "closed"
        place.mkdir(mode=0o500)
    done = run(place, "right()")
    assert done.stderr.count("UserWarning") == 1
    assert "kernels are kept for this process only" in done.stderr


@pytest.mark.thorough
def test_a_cache_that_others_may_write_to(tmp_path):
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    done = run(place)
    assert "can be written to by others" in done.stderr
    assert list(place.iterdir()) == []


@pytest.mark.thorough
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_cache_of_someone_else(tmp_path):
    place = tmp_path / "theirs"
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)
    done = run(place)
    assert "belongs to another user" in done.stderr
    assert list(place.iterdir()) == []


@pytest.mark.thorough
def test_a_process_killed_in_the_middle(tmp_path):
    """Its lock dies with it, and nothing half made is found."""
    slow = tmp_path / "slow-c++"
    slow.write_text('#!/bin/sh\n[ "$1" = --version ] && exec g++ --version\ntouch "$MARK"\nsleep 60\n')
    slow.chmod(0o755)
    env = {
        **os.environ,
        "ANYCONV_CACHE_DIR": str(tmp_path / "cache"),
        "ANYCONV_CXX": str(slow),
        "MARK": str(tmp_path / "on"),
    }
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CALL)], env=env, start_new_session=True)
    while not (tmp_path / "on").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert entries(tmp_path / "cache") == []
    start = time.monotonic()
    run(tmp_path / "cache")
    assert time.monotonic() - start < 60
    assert len(entries(tmp_path / "cache")) == 1


@pytest.mark.thorough
def test_eight_processes_at_once(tmp_path):
    env = {**os.environ, "ANYCONV_CACHE_DIR": str(tmp_path / "cache"), "ANYCONV_VERBOSE": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(CALL)], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    assert [p.communicate(timeout=300)[0] for p in processes] == ["right\n"] * 8
    assert len(entries(tmp_path / "cache")) == 1
    assert [e.name for e in (tmp_path / "cache").iterdir() if e.name.startswith(".")] == []


@pytest.mark.thorough
def test_four_threads_on_one_cold_formula(tmp_path):
    done = run(tmp_path / "cache", """
        def cold():
            return anyconv.conv2d(x, w, lambda x, w: torch.tanh(x * w) + 0.25, padding=1)
        found = [None] * 4
        def work(i):
            found[i] = cold()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        want = anyconv.conv2d(x, w, lambda x, w: torch.tanh(x * w) + 0.25, padding=1, backend="reference")
        for y in found:
            torch.testing.assert_close(y, want)
        print("all four")
        """, ANYCONV_VERBOSE=1)  # fmt: skip
    assert "all four" in done.stdout
    assert done.stderr.count("tanh") == 1


@pytest.mark.thorough
def test_after_a_fork(cache):
    """The child has none of the threads of its parent's OpenMP runtime, and would wait for them for ever."""
    done = run(cache, """
        torch.set_num_threads(2)
        big = torch.randn(8, 2, 64, 64)
        anyconv.conv2d(big, w, lambda x, w: torch.exp(-((x - w) ** 2)) + 0.125)
        child = os.fork()
        if child == 0:
            y = anyconv.conv2d(big, w, lambda x, w: torch.exp(-((x - w) ** 2)) + 0.125)
            z = anyconv.conv2d(big, w, lambda x, w: torch.abs(x - w) + 0.5)
            torch.set_num_threads(1)  # torch's own operations would wait as well
            os._exit(0 if y.isfinite().all() and z.isfinite().all() else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("the child too")
        """)  # fmt: skip
    assert "the child too" in done.stdout


def test_info_clear_path(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYCONV_CACHE_DIR", str(tmp_path / "mine"))
    assert anyconv.cache.path() == tmp_path / "mine"
    assert anyconv.cache.info().entries == 0
    store.fetch("entry", lambda folder: (folder / "kernel.so").write_bytes(b"12345"))
    found = anyconv.cache.info()
    assert found.path == tmp_path / "mine"
    assert found.entries == 1
    assert found.bytes == 5 + 64
    anyconv.cache.clear()
    assert anyconv.cache.info().entries == 0


def test_a_build_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYCONV_CACHE_DIR", str(tmp_path))

    def build(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        store.fetch("entry", build)
    assert [p.name for p in tmp_path.iterdir()] == ["locks"]


def test_keys_tell_texts_apart():
    assert store.key("ab", "c") != store.key("a", "bc")
    assert store.key("a") != store.key("a", "")


def test_a_lock_held_too_long_does_not_stop_us(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setenv("ANYCONV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(store, "PATIENCE", 0.1)
    (tmp_path / "locks").mkdir()
    with open(tmp_path / "locks" / "entry", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        made = store.fetch("entry", lambda folder: (folder / "kernel.so").write_bytes(b"mine"))
    assert made.read_bytes() == b"mine"
    assert not (tmp_path / "entry").exists()
