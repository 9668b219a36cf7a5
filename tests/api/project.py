"""Where the project's files are, for the tests that read them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("orchestrator", "migrations", "tests", "benchmarks", "examples")
TEXT_SUFFIXES = {
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".json",
    ".mako",
    ".md",
    ".py",
    ".pyi",
    ".sh",
    ".sql",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}


def python_files(*folders: str) -> list[Path]:
    """Return every Python file below *folders*, or of the whole project."""
    return sorted(
        path
        for folder in folders or CODE
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def text_files() -> list[Path]:
    """Return every file of the project that is written by hand."""
    top = [path for path in ROOT.iterdir() if path.is_file()]
    below = [
        path
        for folder in (*CODE, "docs", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return sorted(
        path
        for path in [*top, *below]
        if path.suffix in TEXT_SUFFIXES
        or path.name in {"LICENSE", "Makefile", "run", ".gitignore"}
    )


def name(path: Path) -> str:
    """Return *path* as it is named in messages."""
    return path.relative_to(ROOT).as_posix()
