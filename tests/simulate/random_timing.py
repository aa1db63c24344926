"""Random costed programs that cannot deadlock: every instruction gets its place in one global order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pimloom.kernels.booking import COMPUTE, RECEIVE, SEND
from pimloom.simulate.timing import Timing


def random_timing(seed: int, n_steps: int = 40, *, repeats: bool = False) -> Timing:
    """A program of random size whose messages and dependencies follow a global order.

    With `repeats`, streams repeat until a random time: then rows depend on rows of their own processor only, and have no stages.
    """
    rng = np.random.default_rng(seed)
    n_procs = int(rng.integers(1, 6))
    n_local = int(rng.integers(1, 4))
    n_shared = int(rng.integers(1, 4))
    n_links = int(rng.integers(1, 5))
    has_device, has_lead, has_posts = bool(rng.integers(2)), bool(rng.integers(2)), bool(rng.integers(2))
    n_res = n_procs * n_local + n_shared + n_links + 1
    device_res = n_res - 1
    shared = np.zeros(n_res, np.int8)
    shared[n_procs * n_local :] = 1
    routes = [rng.permutation(n_links)[: rng.integers(1, n_links + 1)] + n_procs * n_local + n_shared for _ in range(3)]
    streams: list[list[dict[str, Any]]] = [[] for _ in range(n_procs)]
    order: list[dict[str, Any]] = []
    n_commands = 3

    def phases(p: int) -> list[tuple[int, int, int]]:
        chain: list[tuple[int, int, int]] = []
        for _ in range(int(rng.integers(1, 5))):
            choice = int(rng.integers(8))
            passing = int(rng.integers(1, 30))
            if choice < 4:
                chain.append((p * n_local + int(rng.integers(n_local)), int(rng.integers(0, 25)), passing))
            elif choice < 6:
                chain.append((n_procs * n_local + int(rng.integers(n_shared)), int(rng.integers(0, 20)), passing))
            elif choice == 6 and has_device:
                chain.append((device_res, int(rng.integers(n_commands)), passing))
            else:
                chain.append((-1 - int(rng.integers(len(routes))), int(rng.integers(1, 9)), passing))
        return chain

    def row(p: int, kind: int, stage: int) -> dict[str, Any]:
        chain = phases(p)
        posts = int(rng.integers(len(chain))) if has_posts and kind != COMPUTE else 0
        made = {
            "p": p, "kind": kind, "stage": stage, "phases": chain, "deps": [], "posts": posts,
            "lead": int(rng.integers(12)) if has_lead and rng.integers(2) else 0,
            "reps": 1 if posts or rng.integers(3) else int(rng.integers(1, 6)), "detached": int(rng.integers(4) == 0),
            "partner": None,
        }  # fmt: skip
        streams[p].append(made)
        order.append(made)
        return made

    max_stage = 0 if repeats else int(rng.integers(3))
    stage = 0
    for step in range(int(rng.integers(1, n_steps))):
        stage = max_stage * step // n_steps
        before = list(order)
        if n_procs > 1 and rng.integers(3) == 0:
            a, b = rng.permutation(n_procs)[:2]
            send, receive = row(int(a), SEND, stage), row(int(b), RECEIVE, stage)
            send["partner"], receive["partner"] = receive, send
            made = [send, receive]
        else:
            made = [row(int(rng.integers(n_procs)), COMPUTE, stage)]
        for one in made:
            for _ in range(int(rng.integers(3))):
                if before:
                    source = before[int(rng.integers(len(before)))]
                    if repeats and source["p"] != one["p"]:
                        continue
                    one["deps"].append((source, int(rng.integers(3))))
    # Within an iteration the global order has to hold for samples too: later stages come first.
    for stream in streams:
        stream.sort(key=lambda r: -r["stage"])
    numbered = [r for stream in streams for r in stream]
    for number, r in enumerate(numbered):
        r["number"] = number
    dep_ptr = np.cumsum([0] + [len(r["deps"]) for r in numbered])
    edges = [(source["number"], back) for r in numbered for source, back in r["deps"]]
    table = np.zeros((len(numbered), 4, 3), np.int32)
    for r in numbered:
        for i, phase in enumerate(r["phases"]):
            table[r["number"], i] = phase
    gaps = [(b, a, int(rng.integers(1, 40))) for b in range(n_commands) for a in range(n_commands)]
    gap_device = np.full(n_res, -1)
    gap_device[device_res] = 0
    timing = Timing(
        stream_ptr=np.cumsum([0] + [len(s) for s in streams]),
        samples=int(rng.integers(1, 4)),
        stage=np.array([r["stage"] for r in numbered]),
        kind=np.array([r["kind"] for r in numbered]),
        detached=np.array([r["detached"] for r in numbered]),
        partner=np.array([-1 if r["partner"] is None else r["partner"]["number"] for r in numbered]),
        reps=np.array([r["reps"] for r in numbered]),
        lead=np.array([r["lead"] for r in numbered]),
        posts=np.array([r["posts"] for r in numbered]),
        n_phases=np.array([len(r["phases"]) for r in numbered]),
        phase_res=table[:, :, 0],
        phase_hold=table[:, :, 1],
        phase_pass=np.maximum(table[:, :, 2], 1),
        dep_ptr=dep_ptr,
        dep_row=np.array([e[0] for e in edges], np.int32),
        dep_distance=np.array([e[1] for e in edges], np.int32),
        shared=shared,
        route_ptr=np.cumsum([0] + [len(r) for r in routes]),
        route_link=np.concatenate(routes),
        gap_device=gap_device,
        gap_ptr=np.array([0, len(gaps)]),
        gap_before=np.array([g[0] for g in gaps]),
        gap_after=np.array([g[1] for g in gaps]),
        gap_cycles=np.array([g[2] for g in gaps]),
        window=int(rng.integers(1, 6)),
        queue=int(rng.integers(1, 4)),
        issue_cycles=int(rng.integers(1, 3)),
        in_order=bool(rng.integers(2)),
        is_serial=bool(rng.integers(3) == 0),
        handshake_cycles=int(rng.integers(1, 5)),
        hop_cycles=int(rng.integers(0, 4)),
        is_wormhole=bool(rng.integers(2)),
        until_cycles=int(rng.integers(1, 4000)) if repeats else 0,
    )
    return in_forms(timing, seed)


def in_forms(timing: Timing, seed: int) -> Timing:
    """The same with rows that are alike in one form, and forms in any order."""
    n = timing.n_rows
    columns = ("kind", "detached", "reps", "posts", "n_phases", "phase_res", "phase_hold", "phase_pass")
    flat = np.concatenate([getattr(timing, name).reshape(n, -1).astype(np.int64) for name in columns], axis=1)
    _, first, form = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    place = np.random.default_rng(seed + 1_000_000).permutation(first.size)
    changed: dict[str, Any] = {name: getattr(timing, name)[first[np.argsort(place)]] for name in columns}
    return replace(timing, form=place[form.ravel()], **changed)
