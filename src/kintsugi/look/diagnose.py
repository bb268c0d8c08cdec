"""`kintsugi diagnose RUN`: the one most likely reason why a run does not learn, its evidence, and one fix.

Rules are asked in order, from what spoils everything after it (a verifier that breaks down) to what only slows
learning; the first that applies is the cause, the others are told beside it. A rule is a pure function of the run's
metrics, read over its last steps: what a run got over is no longer its fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kintsugi.look.commands import Commands
from kintsugi.look.view import RECENT, View
from kintsugi.run.reading import Run

ENOUGH = 5
"""Steps below which a run is too young to be judged: groups of a few problems vary more than the thresholds."""
HALF_OPEN = 0.5
"""The share of open seams from which they are said to be open."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, the numbers that show it, one thing to do about it, and the command for that ("": there is none)."""

    cause: str
    evidence: str
    fix: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings of the rules; the first is the cause. Without a finding the run is `healthy`, or `early`."""

    findings: tuple[Finding, ...]
    steps: int
    note: str

    @property
    def early(self) -> bool:
        return not self.findings and self.steps < ENOUGH

    @property
    def healthy(self) -> bool:
        return not self.findings and not self.early


Rule = Callable[[View], Finding | None]
GROUPS = ("groups/mixed", "groups/all_passed", "groups/all_failed")


def diagnose(run: Run) -> Diagnosis:
    """Diagnoses a run by its last steps. Never raises for what a run may lack."""
    steps = run.steps
    view = View(Commands(run.directory, run.recipe, run.versions.get("made by", "train")), run)
    rules = RULES if len(steps) >= ENOUGH else AT_ONCE if steps else ()
    found = tuple(f for rule in rules if (f := rule(view)))
    return Diagnosis(found, len(steps), healthy_note(view) if steps else "")


def healthy_note(view: View) -> str:
    """A note that says what goes well, and that a loss near zero says nothing."""
    said = []
    start, now = view.mean("accuracy", view.first), view.mean("accuracy")
    if start is not None and now is not None:
        said.append(f"accuracy {start:.0%} at the start, {now:.0%} in {view.span}")
    loss = view.mean("loss")
    if loss is not None:
        said.append(
            f"loss {loss:+.3f}: near zero is normal here, advantages are centred and the ratio starts at 1"
        )
    return "; ".join(said)


def not_finite(view: View) -> Finding | None:
    lost = [s["step"] for s in view.recent if s.get("loss") is None or s.get("grad_norm") is None]
    # A step without a single row to train on has no loss either: nothing was updated, so nothing broke.
    broken = [s["step"] for s in view.recent if s["step"] in lost and s.get("updates")]
    if not broken:
        return None
    return Finding(
        "the loss is not a number",
        f"no finite loss or gradient in {len(broken)} of {len(view.recent)} steps, first in step {broken[0]}",
        "start again from the checkpoint before, in float32 and with a quarter of the learning rate",
        view.commands.again(f"optim.lr={lower(view, 4)}", "dtype=float32", before=broken[0]),
    )


def verifier_errors(view: View) -> Finding | None:
    errors = view.total("verdict/error") / max(1.0, view.rollouts)
    # One verdict in twenty is lost to a hung or broken verifier: its share of the signal, and of the time.
    if errors < 0.05:
        return None
    return Finding(
        "the verifier breaks down",
        f"{errors:.0%} of the rollouts of {view.span} got the verdict error{view.example('error')}",
        "read the messages of such rollouts and correct the verifier",
        view.commands.look("show", "--all"),
    )


def unscorable(view: View) -> Finding | None:
    share = view.total("verdict/unscorable") / max(1.0, view.rollouts)
    if share < 0.2:
        return None
    return Finding(
        "answers cannot be found",
        f"{share:.0%} of the rollouts of {view.span} were unscorable{view.example('unscorable')}",
        "teach the form of an answer by a cold start, or ask for the one that the verifier reads (prompts, verifier)",
        view.commands.cold_start(),
    )


def disagreement(view: View) -> Finding | None:
    gap = view.mean("sampler_gap")
    tolerated = tolerated_gap(view.run.versions.get("dtype", ""))
    top_p = view.setting("sampling.top_p") or 1.0
    if gap is None or top_p < 1 or gap <= tolerated:
        return None
    return Finding(
        "sampler and learner disagree",
        f"their log-probabilities differ by up to {gap:.2g} nats a token in {view.span} (tolerated: {tolerated:g})",
        "sample with the embedded engine in float32: the sampler's weights are out of date, or it rounds too coarsely",
        view.commands.again("engine=local", "dtype=float32"),
    )


def tolerated_gap(dtype: str) -> float:
    """Nats that the log-probabilities of one token may differ by between sampler and learner: correct engines were
    seen up to 1e-5 apart in float32, single tokens up to 0.96 in bfloat16 (docs/engines.md)."""
    return 1.5 if "bfloat16" in dtype else 0.01


def blow_up(view: View) -> Finding | None:
    start, now = view.mean("length/rollout", view.first), view.mean("length/rollout")
    if start is None or now is None or now < 2 * start or gained(view) > 0.05:
        return None
    return Finding(
        "rollouts get longer and no better",
        f"mean length {start:.0f} tokens at the start, {now:.0f} in {view.span}, accuracy {gained(view):+.0%}",
        "halve the learning rate",
        view.commands.again(f"optim.lr={lower(view, 2)}"),
    )


def truncation(view: View) -> Finding | None:
    cut = view.total("truncated") / max(1.0, view.rollouts)
    if cut < 0.2:  # cut rollouts fail whatever they would have said, and are never repaired
        return None
    longest = view.setting("sampling.max_new_tokens")
    return Finding(
        "rollouts are cut off",
        f"{cut:.0%} of the rollouts of {view.span} reached {longest} tokens without an end",
        "double sampling.max_new_tokens",
        view.commands.again(f"sampling.max_new_tokens={2 * longest}") if longest else "",
    )


def collapse(view: View) -> Finding | None:
    accuracy = [s["accuracy"] for s in view.steps if s.get("accuracy") is not None]
    if len(accuracy) < 2 * ENOUGH:
        return None
    windows = {i: sum(accuracy[i : i + ENOUGH]) / ENOUGH for i in range(len(accuracy) - ENOUGH + 1)}
    at = max(windows, key=lambda i: (windows[i], i))  # the last of equals
    best = windows[at]
    now = sum(accuracy[-ENOUGH:]) / ENOUGH
    # Five steps of a hundred rollouts vary by a few points; a fall by half of all that was there is no chance.
    if now > 0.5 * best or best - now < 0.1:
        return None
    return Finding(
        "updates are too large: the policy fell apart",
        f"accuracy {best:.0%} over its best five steps, {now:.0%} over the last; lr {view.setting('optim.lr')}",
        "go back to a checkpoint before the fall, with a quarter of the learning rate",
        view.commands.again(f"optim.lr={lower(view, 4)}", before=view.steps[at]["step"] + ENOUGH),
    )


def entropy_collapse(view: View) -> Finding | None:
    start, now = view.mean("entropy", view.first), view.mean("entropy")
    accuracy = view.mean("accuracy")
    # A policy that is nearly always right is sure of itself with reason.
    if start is None or now is None or accuracy is None or accuracy > 0.8:
        return None
    if now > 0.2 * start or view.share("groups/mixed", *GROUPS) > 0.3:
        return None
    return Finding(
        "entropy collapsed: all rollouts of a group are the same",
        f"{start:.3f} nats a token at the start, {now:.3f} in {view.span}; accuracy {accuracy:.0%}",
        "halve the learning rate and sample at temperature 1",
        view.commands.again(f"optim.lr={lower(view, 2)}", "sampling.temperature=1.0"),
    )


def all_fail(view: View) -> Finding | None:
    share = view.share("groups/all_failed", *GROUPS)
    if share < 0.9:
        return None
    size = view.setting("sampling.group_size") or 8
    return Finding(
        "every group fails: there is no pass to learn from",
        f"{share:.0%} of the groups of {view.span} hold no pass",
        "double the rollouts; easier problems, or a cold start on solutions (sft.data), do more",
        view.commands.again(f"sampling.group_size={2 * size}"),
    )


def all_pass(view: View) -> Finding | None:
    share = view.share("groups/all_passed", *GROUPS)
    if share < 0.9 or gained(view) > 0.1:  # a run that got there by itself is done, not ill
        return None
    return Finding(
        "every group passes: nothing is left to learn",
        f"{share:.0%} of the groups of {view.span} hold no failure, and did from the start",
        "take harder problems, by the task's options or from other data",
    )


def no_variance(view: View) -> Finding | None:
    share = view.share("groups/mixed", *GROUPS)
    if share >= 0.1 or gained(view) > 0.1 or all_fail(view) or all_pass(view):
        return None
    passed, failed = (view.share(f"groups/all_{x}", *GROUPS) for x in ("passed", "failed"))
    size = view.setting("sampling.group_size") or 8
    return Finding(
        "groups do not vary: nothing to compare",
        f"{share:.0%} of the groups of {view.span} are mixed ({passed:.0%} all pass, {failed:.0%} all fail)",
        "double the rollouts at temperature 1, or take problems of medium difficulty",
        view.commands.again(f"sampling.group_size={2 * size}", "sampling.temperature=1.0"),
    )


def repairs_rejected(view: View) -> Finding | None:
    samples = view.total("repair/samples")
    rules = {k: view.total(k) for s in view.recent[:1] for k in s if k.startswith("audit/")}
    worst = max(rules, key=lambda k: rules[k], default=None)
    if not samples or worst is None or sum(rules.values()) < 0.5 * samples:
        return None
    rule = worst.removeprefix("audit/")
    return Finding(
        f"repairs are found but rejected by the audit rule {rule}",
        f"{rules[worst] / samples:.0%} of the {samples:.0f} repairs of {view.span} broke {rule}, "
        f"{sum(rules.values()) / samples:.0%} any rule",
        *view.commands.better_repairs(),
    )


def no_repairs(view: View) -> Finding | None:
    tried = view.total("repair/tried")
    # Below one in ten the seam's signal is too thin to matter; a run that hardly fails tries few.
    mended = sum(
        (s.get("repair/success_per_failure") or 0) * (s.get("repair/tried") or 0) for s in view.recent
    )
    if tried < ENOUGH or mended / tried >= 0.1 or repairs_rejected(view):
        return None
    return Finding(
        "failures are not mended",
        f"{mended:.0f} of the {tried:.0f} failures tried in {view.span} got a verified repair",
        *view.commands.better_repairs(),
    )


def closed_seams(view: View) -> Finding | None:
    known = view.total("reach/known")
    opened = sum((s.get("reach/open") or 0) * (s.get("reach/known") or 0) for s in view.recent)
    # A share of fewer than twenty says little.
    if known < 20 or opened >= HALF_OPEN * known or gained(view) > 0.05:
        return None
    return Finding(
        "seams stay closed: training does not bring the fix within the policy's reach",
        f"{opened:.0f} of the {known:.0f} seams of {view.span} are open; p(fix) {view.mean('reach/fix') or 0:.2f}, "
        f"entropy {view.mean('reach/entropy') or 0:.3f} nats, accuracy {gained(view):+.0%}",
        "make more updates of each batch: where seams gained, training opened them within a few steps",
        view.commands.again(f"optim.minibatches={4 * (view.setting('optim.minibatches') or 1)}"),
    )


def empty_gates(view: View) -> Finding | None:
    rows = view.total("rows/policy") + view.total("rows/repair")
    seams = sum(view.total(f"kstar/{name}") for name in ("K", "2K", "all"))
    trained = view.mean("active_ratio")
    if not rows or not seams or (trained is not None and trained >= 0.001):
        return None
    return Finding(
        "gates are empty: no token is trained on",
        f"{seams:.0f} seams in {view.span}; {trained or 0:.1%} of the rollouts' tokens are trained on",
        *view.commands.wider_gates(),
    )


def gates_everywhere(view: View) -> Finding | None:
    kept, length = view.mean("kstar/kept"), view.mean("length/rollout")
    # A repair that differs in most tokens is another solution: there is no seam to learn from.
    if kept is None or not length or kept < 0.5 * length:
        return None
    return Finding(
        "gates are everywhere: repairs are other solutions, not mended ones",
        f"the mean seam of {view.span} trains {kept:.0f} of {length:.0f} tokens",
        "teach repairs with few edits by a cold start",
        view.commands.cold_start(),
    )


def clipped(view: View) -> Finding | None:
    share = view.mean("clip_fraction")
    # PPO-style training clips a few percent; where a third is, the clip and not the credit decides.
    if share is None or share < 0.3:
        return None
    return Finding(
        "the clip is out of range for the trained tokens",
        f"{share:.0%} of the ratios of {view.span} were clipped; active tokens {view.mean('active_ratio') or 0:.0%}",
        "halve the learning rate",
        view.commands.again(f"optim.lr={lower(view, 2)}"),
    )


def too_small(view: View) -> Finding | None:
    start, now = view.mean("entropy", view.first), view.mean("entropy", view.steps[-len(view.first) :])
    if len(view.steps) < RECENT or start is None or now is None or not view.total("updates"):
        return None
    # Learning changes how sure the policy is (healthy runs: by a third within 20 steps); noise, by a tenth.
    if abs(now - start) > 0.15 * start or abs(gained(view)) > 0.1:
        return None
    return Finding(
        "updates are too small: the policy does not move",
        f"accuracy {gained(view):+.0%} and entropy {now / start - 1:+.0%} since the start, "
        f"lr {view.setting('optim.lr')}, active tokens {view.mean('active_ratio') or 0:.0%}",
        "multiply the learning rate by ten",
        view.commands.again(f"optim.lr={10 * (view.setting('optim.lr') or 1e-6):g}"),
    )


RULES: tuple[Rule, ...] = (
    not_finite,
    verifier_errors,
    disagreement,
    collapse,
    blow_up,
    truncation,
    unscorable,
    all_fail,
    all_pass,
    entropy_collapse,
    no_variance,
    repairs_rejected,
    no_repairs,
    closed_seams,
    empty_gates,
    gates_everywhere,
    clipped,
    too_small,
)


AT_ONCE: tuple[Rule, ...] = (not_finite, verifier_errors)
"""The rules that need no trend: one step is enough."""


def gained(view: View) -> float:
    """Accuracy now less accuracy at the start."""
    start, now = view.mean("accuracy", view.first), view.mean("accuracy", view.steps[-len(view.first) :])
    return 0.0 if start is None or now is None else now - start


def lower(view: View, times: float) -> str:
    """The recipe's learning rate divided, as a value to try."""
    return f"{(view.setting('optim.lr') or 1e-6) / times:g}"
