"""Commands on prompt sets: list, show, render, diff, ab. Only ab searches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmnas.cli.bench_search import Batch, ChargeBy, NoPrior
from llmnas.cli.compare import TableDataset, TableDevice, TableFolder
from llmnas.cli.look import AsJson, print_json
from llmnas.errors import InputError

if TYPE_CHECKING:
    from llmnas.llm import Message
    from llmnas.prompts import PromptSet, Role

ESTIMATE = "about {tokens:,} tokens: an estimate, a quarter of the characters; every model counts its own way"
MOCK_READS = ("The mock reads the JSON block alone: to it two wordings are one, and only what the block holds can make "
              "a difference. Ask a language model before saying that one prompt is better.")

Name = Annotated[str, typer.Argument(help="A prompt set's name or folder; what it shows may follow: "
                                          "base:exemplars=0:facts=no.")]
SpaceName = Annotated[str, typer.Option(help="Space of the example.")]
OfRun = Annotated[str | None, typer.Option("--run", help="A run: the prompt of its next step, in its space.",
                                           show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    prompts = typer.Typer(help="Prompt sets: look at them, compare them.", no_args_is_help=True)
    for command in (list_, show, render, diff, ab):
        prompts.command(command.__name__.strip("_"))(command)
    app.add_typer(prompts, name="prompts")


def list_(as_json: AsJson = False) -> None:
    """List the prompt sets that come with llmnas."""
    from llmnas.prompts import list_prompts

    rows = [{"name": one.name, "id": one.id, **one.about.model_dump(mode="json")} for one in list_prompts()]
    if as_json:
        print_json({"schema": "llmnas.prompts/2", "prompts": rows})
        return
    for row in rows:
        typer.echo(f"{row['id']:30}  {row['description']}")


def show(name: Name) -> None:
    """Print a prompt set: its settings, defaults written out, and its templates."""
    from llmnas.prompt_settings import TEMPLATES
    from llmnas.prompts import load_prompt

    found = load_prompt(name)
    typer.echo(f"--- {found.id} ---\n{found.settings()}")
    for role in TEMPLATES:
        typer.echo(f"--- {role} ---\n{found.source(role)}")


def render(
    name: Name,
    role: Annotated[Literal["propose", "repair", "reflect"], typer.Option(help="Which call.")] = "propose",
    space: SpaceName = "nb201",
    run: OfRun = None,
    first: Annotated[bool, typer.Option("--first", help="Of the example: the first step, before anything is measured.")
                     ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the messages that would be sent, word by word. The size is told on stderr."""
    from llmnas.prompts import load_prompt, token_estimate

    found = load_prompt(name)
    messages, note = _rendered(found, role, space, run, first)
    tokens = token_estimate(messages)
    if as_json:
        print_json({"schema": "llmnas.prompt/1", "prompt": found.id, "role": role, "note": note,
                    "messages": [message.model_dump(mode="json") for message in messages],
                    "tokens": tokens, "tokens_by": "a quarter of the characters, an estimate"})
        return
    typer.echo(_text(messages))
    typer.echo(f"{found.id}, {role}: {ESTIMATE.format(tokens=tokens)}", err=True)
    if note:
        typer.echo(note, err=True)


def diff(
    left: Name,
    right: Name,
    rendered: Annotated[bool, typer.Option("--rendered", help="What is sent in place of settings and templates.")
                        ] = False,
    space: SpaceName = "nb201",
    run: OfRun = None,
) -> None:
    """Show what two prompt sets do differently: settings and templates, or the text that is sent."""
    from llmnas.prompts import difference, load_prompt

    one, other = load_prompt(left), load_prompt(right)
    if not rendered:
        typer.echo(difference(one, other), nl=False)
        return
    for text in _rendered_differences(one, other, space, run):
        typer.echo(text, nl=False)


def ab(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT PROMPT [PROMPT]...",
                                                 help="Two prompt sets or more; one twice is an A/A pair.")],
    bench: Annotated[str, typer.Option(help="The table to search on, as in compare.")] = "conv1d",
    dataset: TableDataset = None,
    device: TableDevice = None,
    data_dir: TableFolder = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0; every prompt runs each.", min=2)] = 20,
    evals: Annotated[int, typer.Option(help="Evaluations of a search.", min=1)] = 60,
    llm: Annotated[str, typer.Option(help="The language model, as in run; mock works offline.")] = "auto",
    strategy: Annotated[str, typer.Option(help="Who asks.")] = "agent",
    screen: Annotated[int, typer.Option(help="Architectures whose proxies a search may look at.", min=0)] = 0,
    batch: Batch = None,
    charge: ChargeBy = "distinct",
    no_prior: NoPrior = False,
    workers: Annotated[int | None, typer.Option(help="Searches at once. [default: one per core]", min=1,
                                                show_default=False)] = None,
    html: Annotated[Path | None, typer.Option(help="Writes the report into this file too.",
                                              show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; one that is there is gone on with. "
                                                  "[default: one below runs/]", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Compare prompt sets seed by seed on a table: better, worse, or do the seeds not tell? The first is the reference.

    The same as `llmnas compare --strategies agent@A,agent@B`, with what the model's proposals were worth and cost.
    """
    from llmnas.cli.compare import on_table
    from llmnas.compare import page, parse_arms, words
    from llmnas.compare.analysis import Question

    if len(prompts) < 2:
        raise InputError(f"a comparison needs two prompts, got {prompts[0]!r}",
                         f"an A/A pair: llmnas prompts ab {prompts[0]} {prompts[0]}")
    text = ",".join(f"{strategy}@{prompt}" for prompt in prompts)
    found = on_table(bench, data_dir, dataset, device, text, seeds, out, Question(parse_arms(text)[0].label), workers,
                     evals=evals, charge=charge, screen=screen, batch=batch, prior=not no_prior, llm=llm)
    folder = Path(found.pop("folder"))
    if found["mock"]:
        found["notes"] = [MOCK_READS, *found["notes"]]
    document = page.complete(found, ("llmnas", *sys.argv[1:]))
    report, _ = page.write(document, folder)
    if html is not None:
        page.write_page(document, html)
        report = html
    if as_json:
        print_json(document)
        return
    for line in (*words.lines(document), "", *words.costs(document)):
        typer.echo(line)
    typer.echo(f"\nreport: {report}")


def _rendered(prompts: PromptSet, role: Role, space: str, run: str | None,
              first: bool = False) -> tuple[list[Message], str]:
    """Returns the messages, and what must be said of them."""
    from llmnas.agent import preview
    from llmnas.space import load_space
    from llmnas.store import find_run, read_run

    if run is None:
        scene = preview.example(load_space(space), trained=not first)
        return preview.next_messages(scene, prompts, role), "" if first else preview.NO_RUN
    state = read_run(find_run(run))
    return preview.next_messages(preview.scene_of(state, load_space(state.settings.space)), prompts, role), ""


def _text(messages: list[Message]) -> str:
    return "\n".join(f"--- {message.role} ---\n{message.content}" for message in messages)


def _rendered_differences(one: PromptSet, other: PromptSet, space: str, run: str | None) -> Iterator[str]:
    """Yields the differences of what is sent, role by role; a call that a set does not make is an empty text."""
    from llmnas.prompts import ROLES, unified

    for role in ROLES:
        before, after = ("" if role == "reflect" and not prompts.reflects else
                         _text(_rendered(prompts, role, space, run)[0]) + "\n" for prompts in (one, other))
        yield unified(before, after, f"{one.label}/{role}", f"{other.label}/{role}")
