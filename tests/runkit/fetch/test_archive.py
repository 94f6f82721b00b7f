"""Archives that would write outside of their folder, or need more space than allowed."""

import gzip
import io
import tarfile

import pytest
from support import spoil

from runkit import UserError
from runkit.fetch.archive import unpack_tar

LIMITS = {"max_bytes": 100_000}


def add_file(tar: tarfile.TarFile, name: str, content: bytes = b"x") -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def add_special(tar: tarfile.TarFile, kind: bytes) -> None:
    member = tarfile.TarInfo("images/link")
    member.type, member.linkname = kind, "/etc/passwd"
    tar.addfile(member)


def pick(unpacked):
    return unpacked / "images"


def unpack(archive, folder):
    unpack_tar(archive, folder, pick=pick, **LIMITS)


@pytest.mark.parametrize("form", ["", "gz", "bz2", "xz"])
def test_the_picked_folder_is_made(tmp_path, form):
    with tarfile.open(tmp_path / "archive", f"w:{form}") as tar:
        add_file(tar, "images/a/1.txt", b"one")
        add_file(tar, "./images/2.txt", b"two")
        add_file(tar, "images/.hidden", b"left out")
        add_file(tar, "readme", b"left out by pick")
    unpack(tmp_path / "archive", tmp_path / "new" / "folder")
    files = {p.relative_to(tmp_path / "new").as_posix(): p.read_bytes() for p in (tmp_path / "new").rglob("*.*")}
    assert files == {"folder/a/1.txt": b"one", "folder/2.txt": b"two"}


def file_as_folder(tar):
    add_file(tar, "images/a", b"1")
    add_file(tar, "images/a/b", b"2")


def lie_about_size(tar):
    member = tarfile.TarInfo("images/a")
    member.size = 1 << 40
    tar.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))


def huge_header(tar):
    member = tarfile.TarInfo("images/a")
    member.pax_headers = {"comment": "x" * (20 << 20)}
    tar.addfile(member)


def endless_headers(tar):
    """An archive of headers about headers, which `tarfile` follows recursively."""
    for _ in range(3000):
        tar.fileobj.write(tarfile.TarInfo._create_pax_generic_header({"comment": "x"}, tarfile.XHDTYPE, "utf-8"))


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda tar: add_file(tar, "../escape"), "'../escape' would be extracted to .*outside the destination"),
        (lambda tar: add_file(tar, "images/../../escape"), "outside the destination"),
        (lambda tar: add_special(tar, tarfile.SYMTYPE), "'images/link' is a special file"),
        (lambda tar: add_special(tar, tarfile.LNKTYPE), "is a special file"),
        (lambda tar: add_special(tar, tarfile.CHRTYPE), "is a special file"),
        (lambda tar: add_special(tar, tarfile.BLKTYPE), "is a special file"),
        (lambda tar: add_special(tar, tarfile.FIFOTYPE), "is a special file"),
        (lambda tar: add_special(tar, tarfile.GNUTYPE_SPARSE), "is a special file"),
        (file_as_folder, "cannot be unpacked"),
        (lambda tar: [add_file(tar, f"images/{i}") for i in range(100)], "it has more than 100000 bytes"),
        (lambda tar: [add_file(tar, f"images/{i}", bytes(60_000)) for i in range(2)], "it has more than 100000 bytes"),
        (lie_about_size, "cannot be unpacked: unexpected end of data"),
        (huge_header, "it has more than 100000 bytes"),
        (endless_headers, "cannot be unpacked"),
    ],
)
def test_what_has_no_place_in_an_archive_is_refused_and_leaves_nothing(tmp_path, fill, message):
    with tarfile.open(tmp_path / "archive", "w:gz", compresslevel=1) as tar:
        fill(tar)
    with pytest.raises(UserError, match=message) as caught:
        unpack(tmp_path / "archive", tmp_path / "new" / "folder")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "new").iterdir()) == []
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("name", ["/images/a", "//images/a"])
def test_an_absolute_name_stays_inside(tmp_path, name):
    with tarfile.open(tmp_path / "archive", "w") as tar:
        add_file(tar, name)
    unpack(tmp_path / "archive", tmp_path / "folder")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_a_plain_archive_has_the_same_limit(tmp_path):
    with tarfile.open(tmp_path / "archive", "w") as tar:
        add_file(tar, "images/a", bytes(150_000))
    with pytest.raises(UserError, match="it has more than 100000 bytes"):
        unpack(tmp_path / "archive", tmp_path / "folder")


def test_a_bomb_that_is_no_archive(tmp_path):
    with gzip.open(tmp_path / "archive", "wb", compresslevel=1) as file:
        file.write(bytes(50_000_000))
    assert (tmp_path / "archive").stat().st_size < 1_000_000
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(tmp_path / "archive", tmp_path / "new" / "folder")


def test_a_refusal_by_pick_leaves_nothing(tmp_path):
    def refuse(unpacked):
        raise UserError("not what was expected")

    with tarfile.open(tmp_path / "archive", "w") as tar:
        add_file(tar, "images/a")
    with pytest.raises(UserError, match="not what was expected"):
        unpack_tar(tmp_path / "archive", tmp_path / "new" / "folder", pick=refuse, **LIMITS)
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    with tarfile.open(tmp_path / "archive", "w") as tar:
        add_file(tar, "images/a")
    left = tmp_path / ".folder.unpack" / "images"
    left.mkdir(parents=True)
    (left / "half").write_text("hal")
    unpack(tmp_path / "archive", tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "folder"]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_what_is_there_is_not_replaced(tmp_path):
    with tarfile.open(tmp_path / "archive", "w") as tar:
        add_file(tar, "images/a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    with pytest.raises(UserError, match="remove what is there"):
        unpack(tmp_path / "archive", tmp_path / "folder")
    assert (tmp_path / "folder" / "mine").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("form", ["", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_refused_or_gives_what_went_in(tmp_path, form):
    with tarfile.open(tmp_path / "archive", f"w:{form}") as tar:
        for i in range(3):
            add_file(tar, f"images/{i}", bytes(range(250)) * 3)
    accepted, refusals = 0, []
    for attempt, content in enumerate(spoil((tmp_path / "archive").read_bytes(), 100)):
        (tmp_path / "spoilt").write_bytes(content)
        folder = tmp_path / str(attempt)
        try:
            unpack(tmp_path / "spoilt", folder)
        except UserError as error:
            refusals.append(str(error))
            assert not folder.exists()
        else:
            accepted += 1
            assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2"]
            for path in folder.iterdir():  # a plain archive has no checksums of its files
                assert form == "" or path.read_bytes() == bytes(range(250)) * 3
    assert accepted < 100
    assert all("\n" not in text for text in refusals)
