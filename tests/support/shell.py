"""The commands in a piece of shell: a reader for what documentation shows, not for all that a shell can do."""

import re
import shlex
from collections.abc import Iterator

HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
SUBSTITUTION = re.compile(r"\$\(([^()]+)\)")
BEFORE_A_COMMAND = {"do", "else", "env", "exec", "if", "nohup", "sudo", "then", "time", "while", "!", "{"}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command, without redirections and without variables that are set for it."""
    for line in _lines(text):
        for inner in SUBSTITUTION.findall(line):
            yield from commands(inner)
        words: list[str] = []
        for token in [*_tokens(SUBSTITUTION.sub("substituted", line)), ";"]:
            if token and set(token) <= set(";&|()"):
                yield from _command(words)
                words = []
            else:
                words.append(token)


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of commands: joined where they go on, and without the texts that they get as their input."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    joined = ""
    for line in lines:
        joined += line
        try:
            shlex.split(joined, comments=True)
        except ValueError:  # a quotation goes on in the next line
            joined += "\n"
            continue
        yield joined
        if heredoc := HEREDOC.search(joined):
            for inner in lines:
                if inner.strip() == heredoc[1]:
                    break
        joined = ""


def _tokens(line: str) -> list[str]:
    without_numbers = re.sub(r"(?<=\s)\d(?=[<>])", "", line)  # of the files that are redirected, as in 2>&1
    lexer = shlex.shlex(without_numbers, posix=True, punctuation_chars=True)
    lexer.wordchars += "@%+:,=![]{}#$*?^"
    return list(lexer)


def _command(words: list[str]) -> Iterator[list[str]]:
    rest = iter(words)
    plain: list[str] = []
    for word in rest:
        if word and set(word) <= set("<>&"):
            next(rest, None)  # the file of a redirection
        else:
            plain.append(word)
    while plain and (plain[0] in BEFORE_A_COMMAND or re.match(r"\w+=", plain[0])):
        plain = plain[3:] if plain[:2] == ["sudo", "-u"] else plain[1:]
    if plain:
        yield plain
