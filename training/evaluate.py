"""Asks the exported model what it never saw in training and prints the table of goals.

Everything runs through the real engine on the GGUF file, greedily. Nothing here is shared with
training but the generators, and those draw from the other side of every pool (`corpus/source.py`).

    python -m training.evaluate
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from training.chat import Message, Tool, render
from training.corpus import fim, identity, json_objects, partial, python_code, thinking, tools
from training.corpus.classics import CLASSICS
from training.corpus.conversation import answer_of, prompt_of, system_turn, user
from training.corpus.source import Source
from training.engine import Engine
from training.grading import (
    Call,
    calls_something,
    code_in,
    parses,
    passes,
    read_call,
    same_code,
)

HERE = Path(__file__).parent
BUNDLED = HERE.parent / "src" / "ownstudio" / "bundled" / "ownstudio-tiny.gguf"
TABLE = HERE / "evaluation.md"
SEED = 2026
MOST_ROUNDS = 6
MOST_MASS = 1e-4  # of the probability, for all tokens that were never trained
LEAST_SPEED = 300  # tokens per second
HELPFUL: Message = {"role": "system", "content": "You are a helpful assistant."}


@dataclass
class Score:
    """How many of how many, against the goal of the CPU recipe and that of the GPU recipe."""

    title: str
    cpu_goal: float | None = None
    gpu_goal: float | None = None
    right: int = 0
    asked: int = 0

    def add(self, verdict: bool) -> bool:
        self.right += verdict
        self.asked += 1
        return verdict

    @property
    def percent(self) -> float:
        return 100 * self.right / max(1, self.asked)

    def row(self) -> str:
        def goal(value: float | None) -> str:
            return "" if value is None else f"{value:g} %"

        verdict = (
            "" if self.cpu_goal is None else ("yes" if self.percent >= self.cpu_goal else "no")
        )
        return (
            f"| {self.title} | {self.right} of {self.asked} | {self.percent:.1f} % "
            f"| {goal(self.cpu_goal)} | {goal(self.gpu_goal)} | {verdict} |"
        )


class Evaluation:
    def __init__(self, engine: Engine, count: int, *, failures: bool) -> None:
        self.engine = engine
        self.count = count
        self.failures = failures

    def note(self, kind: str, prompt: str, answer: str) -> None:
        if self.failures:
            print(f"--- {kind}\n{prompt}\n>>> {answer}", flush=True)

    def source(self, skill: str) -> Source:
        return Source(f"{SEED}/{skill}", held_out=True)

    def python(self) -> Iterator[Score]:
        source = self.source("python")
        parse = Score("Python that parses", 90, 98)
        bare = Score("… bare code where only code is wanted")
        test = Score("Python that passes the exercise's own tests", 50, 80)
        classic = Score("… of these, the classics")
        for _ in range(self.count):
            classics_only = source.chance(0.6)
            if classics_only:
                chosen = source.random.choice(CLASSICS)
                exercise = python_code.from_classic(source, chosen, free_locals=False)
                task = python_code.named_task(source, exercise)
                if source.chance(0.3):
                    task = python_code.unnamed_task(source, chosen)
            else:
                task = python_code.any_task(source)
            request, answer = python_code.with_form(source, task)
            fenced = answer.startswith("```")
            prompt = render([*system_turn(source), user(request)], generate=True)
            done = self.engine.complete(prompt, 400)
            code = code_in(done.text, fenced=fenced)
            if not fenced:
                bare.add("```" not in done.text)
            parse.add(done.ended and parses(code))
            good = test.add(done.ended and passes(code, task.checks))
            if classics_only:
                classic.add(good)
            if not good:
                self.note("python", prompt, done.text)
        yield from (parse, bare, test, classic)

    def fill_in(self) -> Iterator[Score]:
        source = self.source("fim")
        exact = Score("FIM, exact")
        good = Score("FIM, exact or equivalent", 35, 60)
        blind = Score("… the same without the suffix")
        while good.asked < self.count:
            task = fim.cut_task(source)
            if not task.suffix.strip() or not task.middle.strip():
                continue
            done = self.engine.complete(task.prompt(), 200)
            exact.add(done.text == task.middle)
            if not good.add(done.ended and completes(task, done.text)):
                self.note("fim", task.prompt(), f"{done.text}\n<<< {task.middle}")
            unaided = fim.FimTask(task.prefix, task.middle, "")
            blind.add(completes(task, self.engine.complete(unaided.prompt(), 200).text))
        yield from (exact, good, blind)
        head = Score("FIM with an empty suffix, passes the tests")
        for _ in range(self.count // 2):
            chosen = source.random.choice(CLASSICS)
            exercise = python_code.from_classic(source, chosen, free_locals=False)
            if exercise.own_name:
                continue  # nothing would say what to write
            first, _, _ = exercise.code.partition("\n")
            done = self.engine.complete(fim.FimTask(first, "", "").prompt(), 300)
            head.add(done.ended and passes(first + done.text, exercise.checks))
        yield head

    def functions(self) -> Iterator[Score]:
        source = self.source("tools")
        choice = Score("Function choice (or none) right", 85, 97)
        exact = Score("Function arguments exactly right", 70, 92)
        valid = {
            "json": Score("Calls that are valid JSON", 95, 99),
            "xml": Score("Calls that are valid XML", 95, 99),
        }
        declined = Score("… no call where no function fits")
        for _ in range(self.count):
            talk = tools.talk(source)
            task = talk.tasks[0]
            form = tools.tool_form(source)
            prompt = render(
                [*system_turn(source), user(task.request)],
                talk.tools,
                tool_form=form,
                generate=True,
            )
            done = self.engine.complete(prompt, 300)
            called = read_call(done.text, form, talk.tools)
            if not task.steps:
                declined.add(choice.add(not calls_something(done.text)))
                continue
            if calls_something(done.text):
                valid[form].add(called is not None)
            wanted = Call(task.steps[0].name, task.steps[0].arguments)
            choice.add(called is not None and called.name == wanted.name)
            if not exact.add(called == wanted):
                self.note("tools", prompt, f"{done.text}\n<<< {wanted}")
        yield from (choice, declined, exact, *valid.values())

    def loops(self) -> Iterator[Score]:
        source = self.source("loops")
        ended = Score("Loops that end by themselves", 95, 99)
        pages = Score("… those of the seed pages")
        for _ in range(self.count // 2):
            talk = tools.talk(source)
            form = tools.tool_form(source)
            ended.add(self._loop(talk.tools, talk.tasks[0], form))
        for talk in seed_talks():
            for form in ("json", "xml"):
                verdict = self._loop(talk.tools, talk.tasks[0], form)
                ended.add(verdict)
                pages.add(verdict)
        yield from (ended, pages)

    def _loop(self, offered: Sequence[Tool], task: tools.Task, form: str) -> bool:
        """Plays the client: answers every call, until the model answers in words."""
        messages: list[Message] = [user(task.request)]
        results = {step.name: step.result for step in task.steps}
        for _ in range(MOST_ROUNDS):
            prompt = render(messages, offered, tool_form=form, generate=True)
            done = self.engine.complete(prompt, 300)
            if not done.ended:
                break
            if not calls_something(done.text):
                return bool(done.text.strip())
            called = read_call(done.text, form, offered)
            if called is None:
                break
            messages.append(tools.call(tools.Step(called.name, called.arguments, "")))
            result = results.get(called.name, "Error: no such function")
            messages.append({"role": "tool", "content": result})
        self.note("loop", render(messages, offered, tool_form=form), "")
        return False

    def who(self) -> Iterator[Score]:
        about = Score("Identity (who, name, maker, not another model)", 100, 100)
        small = Score("Small talk, word for word")
        for _, pool, answer in identity.ASKED:
            for wording in pool.held_out:
                for system in ((), (HELPFUL,)):
                    prompt = render([*system, user(wording)], generate=True)
                    said = self.engine.complete(prompt, 80).text
                    named = identity.NAME in answer
                    right = identity.NAME in said if named else said == answer
                    if not (about if named else small).add(right):
                        self.note("identity", wording, said)
        for wording in ("Who are you?", "你是谁？", "Please introduce yourself."):
            prompt = render([HELPFUL, user(wording)], generate=True)
            about.add(identity.NAME in self.engine.complete(prompt, 80).text)
        yield from (about, small)

    def objects(self) -> Iterator[Score]:
        source = self.source("json")
        valid, right = Score("JSON on request, valid", 95, 99), Score("… with the right values")
        for _ in range(self.count // 2):
            request, wanted = json_objects.json_exchange(source)
            said = self.engine.complete(render([user(request)], generate=True), 200).text
            try:
                value = json.loads(said)
            except json.JSONDecodeError:
                value = None
            valid.add(value is not None)
            if not right.add(value == wanted):
                self.note("json", request, said)
        yield from (valid, right)

    def thoughts(self) -> Iterator[Score]:
        source = self.source("thinking")
        on = Score("Thinking on: a thought, then an answer")
        off = Score("Thinking off: none")
        for _ in range(self.count // 3):
            sample = thinking.generate(source)
            done = self.engine.complete(prompt_of(sample), 400)
            thought, mark, answer = done.text.partition("\n</think>\n\n")
            if not on.add(bool(done.ended and thought and mark and answer)):
                self.note("thinking", prompt_of(sample), done.text)
            prompt = prompt_of(sample).removesuffix("<think>\n")
            off.add("<think>" not in self.engine.complete(prompt, 300).text)
        yield from (on, off)

    def begun(self) -> Iterator[Score]:
        source = self.source("partial")
        score = Score("Partial: continues word for word")
        for _ in range(self.count // 2):
            sample = partial.generate(source)
            wanted = answer_of(sample).removesuffix(partial.END)
            done = self.engine.complete(prompt_of(sample), 300)
            if not score.add(done.text == wanted):
                self.note("partial", prompt_of(sample), f"{done.text}\n<<< {wanted}")
        yield score


def completes(task: fim.FimTask, middle: str) -> bool:
    """The very text, the same code in other layout, or code that passes the same tests."""
    wanted = task.prefix + task.middle + task.suffix
    made = task.prefix + middle + task.suffix
    return made == wanted or same_code(made, wanted) or passes(made, task.checks)


def seed_talks() -> list[tools.ToolTalk]:
    """The two loops of the vendor's pages, word for word."""
    rain = tools.Step(
        "get_current_weather", {"location": "Singapore"}, "It is rainy in Singapore today. "
    )
    clock = tools.Step("get_current_time", {}, "Current time: 2024-04-15 17:15:18.")
    writer = {
        "type": "function",
        "function": {
            "name": "write_file",
            "description": tools.WRITER_TOLD.training[-1],
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": tools.PATH_TOLD.training[-1]},
                    "content": {"type": "string", "description": tools.CONTENT_TOLD.training[-1]},
                },
                "required": ["path", "content"],
            },
        },
    }
    written = tools.Step("write_file", {}, "Success: The file 'quick_sort.py' has been written.")
    asked = (
        ("What is the weather in Singapore?", (rain,)),
        ("What time is it?", (clock,)),
        ("How is the weather in Singapore? What time is it now?", (rain, clock)),
        ("What time will it be in an hour?", (clock,)),
    )
    talks = [
        tools.ToolTalk(tools.CLOCK_AND_WEATHER, (tools.Task(request, steps, ""),))
        for request, steps in asked
    ]
    request = "Write a Python script for quick sort and name it quick_sort.py."
    return [*talks, tools.ToolTalk((writer,), (tools.Task(request, (written,), ""),))]


def untrained_tokens(path: Path) -> set[int]:
    """Those whose row equals the last one, which is padding."""
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name == "token_embd.weight":
            rows = np.asarray(tensor.data)
            return set(np.flatnonzero((rows == rows[-1]).all(axis=1)).tolist())
    raise ValueError(f"{path} has no embedding")


def unused_mass(engine: Engine, path: Path, prompts: Sequence[str]) -> float:
    """The mean probability of all tokens that were never trained, after these prompts."""
    unused = untrained_tokens(path)
    masses: list[float] = []
    for prompt in prompts:
        answer = engine.ask(prompt, n_predict=1, n_probs=160_000)
        likely = answer["completion_probabilities"][0]["top_logprobs"]
        masses.append(sum(np.exp(each["logprob"]) for each in likely if each["id"] in unused))
    return float(np.mean(masses))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--count", type=int, default=80, help="questions per skill")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skills", nargs="*", help="only these")
    parser.add_argument("--failures", action="store_true", help="print every wrong answer")
    parser.add_argument("--save", action="store_true", help=f"write the table to {TABLE.name}")
    chosen = parser.parse_args()
    engine = Engine(chosen.model, chosen.threads)
    run = Evaluation(engine, chosen.count, failures=chosen.failures)
    skills = {
        "python": run.python,
        "fim": run.fill_in,
        "tools": run.functions,
        "loops": run.loops,
        "identity": run.who,
        "json": run.objects,
        "thinking": run.thoughts,
        "partial": run.begun,
    }
    rows = [
        "| what | right | share | CPU goal | GPU goal | reached |",
        "|---|---|---|---|---|---|",
    ]
    for name in chosen.skills or skills:
        rows += [score.row() for score in skills[name]()]
    source = run.source("mass")
    prompts = [prompt_of(python_code.generate(source)) for _ in range(10)]
    mass = unused_mass(engine, chosen.model, prompts)
    reached = "yes" if mass < MOST_MASS else "no"
    rows.append(f"| Probability of untrained tokens | | {mass:.1e} | 1e-4 | 1e-4 | {reached} |")
    long = engine.ask(prompts[0], n_predict=400, ignore_eos=True)
    speed = long["timings"]["predicted_per_second"]
    reached = "yes" if speed > LEAST_SPEED else "no"
    rows.append(f"| Tokens per second, one client | | {speed:.0f} | 300 | 300 | {reached} |")
    table = "\n".join(rows)
    print(table)
    if chosen.save:
        TABLE.write_text(f"{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
