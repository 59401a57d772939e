"""`clapjax completion`: what a shell completes, as the parsers tell it."""

import argparse
import re

EXAMPLE = "clapjax completion bash >> ~/.bashrc"
SHELLS = ("bash", "zsh")
ZSH = "autoload -U +X bashcompinit && bashcompinit"  # takes what is for bash
SCRIPT = """\
_clapjax() {{
  local now=${{COMP_WORDS[COMP_CWORD]}} actions="" options="" words=""
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [[ $COMP_CWORD == 1 ]]; then words="{verbs}"
  elif [[ $now == -* ]]; then words=$options
  elif [[ $COMP_CWORD == 2 ]]; then words=$actions
  fi
  COMPREPLY=($(compgen -W "$words" -- "$now"))
}}
complete -o default -F _clapjax clapjax"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SHELL."""
    parser.add_argument("shell", choices=SHELLS, help=" or ".join(SHELLS))


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the script: verbs, their actions and options; else the shell completes files."""
    from clapjax.cli.main import VERBS, verb_parser

    if args.shell == "zsh":
        print(ZSH)
    cases = [case(verb, verb_parser(verb)) for verb in VERBS]
    print(SCRIPT.format(verbs=" ".join(VERBS), cases="\n".join(cases)))
    return 0


def case(verb: str, parser: argparse.ArgumentParser) -> str:
    """The line about a verb."""
    from clapjax.cli.main import actions

    nested = actions(parser)
    texts = [one.format_help() for one in (parser, *nested.values())]
    options = dict.fromkeys(re.findall(r"(?<![\w-])--\w+", "\n".join(texts)))
    return f'    {verb}) actions="{" ".join(nested)}" options="{" ".join(options)}" ;;'
