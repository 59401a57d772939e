"""What a file is that stands in the place of another one."""

import re

HEAD_BYTES = 1024  # of a file, which tell what it is
# How it begins, what it is, and how to come by the file itself.
KINDS = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (rb"[^\s<]*annex[/\\]objects[/\\]", "a git-annex pointer, not the file; run `git annex get`"),
    (rb"<\?xml[^>]*>\s*<Error\b", "an error that a bucket gave, not the file; download it again"),
    (
        rb"(<\?xml[^>]*>|<!--.*?-->|\s)*<(!doctype\s+html|html|head|body)\b",
        "a saved web page, not the file; download it by its direct link",
    ),
)


def impostor(head: bytes) -> str:
    """What a file is that begins so, where downloads leave such in the place of others; else ""."""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        return "an empty file"
    return next((what for look, what in KINDS if re.match(look, head, re.I | re.S)), "")
