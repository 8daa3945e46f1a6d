"""The cache of decoded images: what comes from it is what would be decoded, and nothing else is ever trusted."""

import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowscope.cli import console, main
from flowscope.data import TrainingSet, load
from flowscope.data.image_cache import CachePolicy, cache_folder
from flowscope.errors import FlowscopeWarning, InputError

EAGER = CachePolicy(images=1, settled_seconds=0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOWSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(6):
        place = tmp_path / "photos" / "ab"[k % 2] / f"{k}.bmp"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)).save(place)
    return tmp_path / "photos"


def said(source: Path, policy: CachePolicy = EAGER, **options: object) -> tuple[str, str]:
    """The digest of a set, and what was said of the cache."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load(source, cache=policy, **options)
    assert {w.category for w in caught} <= {FlowscopeWarning}
    return found.digest, " ".join(str(w.message) for w in caught)


def test_a_folder_is_decoded_once_and_reads_back_the_same(photos: Path, cache: Path) -> None:
    plain = load(photos, resize=4, flips=True)
    digest, words = said(photos, resize=4, flips=True)
    assert digest == plain.digest and "6 decoded images, 336 bytes, are kept" in words
    (file,) = cache.iterdir()
    assert str(file) in words
    digest, words = said(photos, resize=4, flips=True)
    assert digest == plain.digest and f"6 decoded images were read from the cache: {file}" in words
    found = load(photos, resize=4, flips=True, classes="b", cache=False)
    assert said(photos, resize=4, flips=True, classes="b")[0] == found.digest
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "options", [{"resize": 5}, {"grey": True}, {"subset": 3}, {"skip_broken": True}, {"classes": "a"}]
)
def test_other_options_are_another_file(photos: Path, cache: Path, options: dict[str, object]) -> None:
    said(photos)
    digest, words = said(photos, **options)
    assert "are kept" in words and digest == load(photos, **options).digest
    assert len(list(cache.iterdir())) == 2


def test_a_changed_image_is_decoded_again(photos: Path, cache: Path) -> None:
    """The same name, size and time of change of content: the inode, or ctime, is another."""
    said(photos)
    file = photos / "a" / "0.bmp"
    before = file.stat()
    Image.fromarray(np.zeros((6, 7, 3), np.uint8)).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size and file.stat().st_mtime_ns == before.st_mtime_ns
    digest, words = said(photos)
    assert digest == load(photos).digest and "are kept" in words
    Image.fromarray(np.ones((6, 7, 3), np.uint8)).save(photos / "a" / "new.bmp")
    assert said(photos)[0] == load(photos).digest
    shutil.move(photos, photos.with_name("moved"))
    assert "are kept" in said(photos.with_name("moved"))[1]


def test_an_archive_is_kept_and_decoded_again_when_it_changes(photos: Path, cache: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", photos))
    digest = load(archive).digest
    assert "are kept" in said(archive)[1]
    found, words = said(archive)
    assert found == digest and "were read" in words
    (photos / "a" / "0.bmp").unlink()
    shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    found, words = said(archive)
    assert found == load(archive).digest != digest and "are kept" in words


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "text", "header"])
def test_a_damaged_file_is_never_trusted(photos: Path, cache: Path, damage: str) -> None:
    digest, _ = said(photos)
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    header = file.read_bytes().replace(b'"dtype": "U8"', b'"dtype": "I8"')
    file.write_bytes({"bit": content, "cut": content[:-9], "empty": b"", "text": b"no cache", "header": header}[damage])
    again, words = said(photos)
    assert again == digest and "damaged" in words and "are kept" in words
    assert "were read from" in said(photos)[1]


def test_what_was_changed_a_moment_ago_is_not_kept(photos: Path, cache: Path) -> None:
    """A change within the same tick of the clock of the file system would not be seen."""
    assert said(photos, CachePolicy(images=1, settled_seconds=3600))[1] == ""
    assert not cache.exists()


def test_small_sets_are_decoded_each_time(photos: Path, cache: Path) -> None:
    assert said(photos, CachePolicy(settled_seconds=0))[1] == ""
    assert "are kept" in said(photos, CachePolicy(encoded_bytes=100, settled_seconds=0))[1]
    assert said(photos, CachePolicy(images=7, settled_seconds=0))[1] == ""


def test_the_cache_is_limited_and_the_one_used_longest_ago_goes(photos: Path, cache: Path) -> None:
    for k, side in enumerate((10, 11, 12)):
        said(photos, resize=side)
        for file in cache.iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9))
        if k == 1:
            said(photos, resize=10)  # used now
    sizes = {file: file.stat().st_size for file in cache.iterdir()}
    limit = CachePolicy(most_bytes=sum(sizes.values()) + 100, images=1, settled_seconds=0)
    said(photos, limit, resize=4)
    gone = set(sizes) - set(cache.iterdir())
    assert len(gone) == 1
    assert "are kept" in said(photos, resize=11)[1] and "were read" in said(photos, resize=10)[1]
    whole = CachePolicy(most_bytes=2 * 6 * 3 * 400, images=1, settled_seconds=0)
    words = said(photos, whole, resize=20)[1]
    assert "are not kept" in words


def test_what_a_killed_run_left_goes_after_a_day(photos: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    old, new = (cache / f".x.safetensors.0000000{k}.part" for k in (1, 2))
    for file in (old, new):
        file.write_text("half")
    os.utime(old, (0, 0))
    said(photos)
    assert not old.exists() and new.exists()


def test_a_cache_that_cannot_be_written_changes_nothing(photos: Path, cache: Path) -> None:
    cache.parent.write_text("a file")
    digest, words = said(photos)
    assert digest == load(photos).digest and "are not kept" in words


def test_several_runs_at_once_find_the_same(photos: Path, cache: Path) -> None:
    def read(_: int) -> str:
        return load(photos, cache=EAGER, resize=64).digest

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(read, range(8)))
    assert found == {load(photos, resize=64).digest}
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]


def test_broken_images_are_left_out_of_the_cache_too(photos: Path, cache: Path) -> None:
    (photos / "a" / "2.bmp").write_text("no image")
    direct = load_quietly(photos, skip_broken=True)
    for _ in range(2):
        digest, words = said(photos, skip_broken=True)
        assert digest == direct.digest and "Broken images were left out: 1." in words
    (photos / "a" / "2.bmp").unlink()
    os.symlink("nowhere.bmp", photos / "a" / "2.bmp")
    assert "cache" not in said(photos, skip_broken=True)[1]


def load_quietly(source: Path, **options: object) -> TrainingSet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(source, **options)


def test_the_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWSCOPE_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("FLOWSCOPE_CACHE")
    assert cache_folder() == Path("/b/flowscope")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/c/.cache/flowscope")


def test_python_keeps_nothing_unless_it_is_told_to(photos: Path, cache: Path) -> None:
    load(photos)
    assert not cache.exists()
    with pytest.raises(InputError, match="cache is 'yes'"):
        load(photos, cache="yes")


@pytest.mark.slow
def test_the_command_keeps_photographs_and_says_so_once(
    photos: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "EVERY", 0)
    rng = np.random.default_rng(0)
    for k in range(8):
        Image.fromarray(rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8)).save(photos / "a" / f"large{k}.bmp")
    for file in photos.rglob("*.bmp"):
        os.utime(file, (0, 0))
    command = ["info", str(photos), "--resize", "4", "--json"]
    monkeypatch.setattr("time.time_ns", lambda: 2**62)  # much later
    errors = []
    for more in (["--no-cache"], [], []):
        assert main([*command, *more]) == 0
        errors.append(capsys.readouterr().err)
    assert "cache" not in errors[0] and errors[1].count("are kept in the cache") == 1
    assert errors[2].count("were read from the cache") == 1
    assert "reading: 0 of 14" in errors[0] and "reading" not in errors[2]


def test_an_interrupted_decode_keeps_nothing(photos: Path, cache: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(photos, cache=EAGER, progress=stop)
    assert not cache.exists()
