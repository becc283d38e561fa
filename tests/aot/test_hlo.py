"""Collectives, products and loops, read from a program small enough to count by hand."""

from __future__ import annotations

import pytest

from encdec_jax.aot.hlo import Collective, read

# As libtpu writes it, shortened: a loop of 3 whose body gathers a weight in three asynchronous fusions, multiplies and
# adds up over two axes of the mesh; behind it a scattered gradient.
PROGRAM = """
HloModule jit_step, entry_computation_layout={(f32[8,16]{1,0:T(8,128)})->f32[8,16]{1,0:T(8,128)}}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%starting (p: bf16[2,16]) -> (bf16[2,16], bf16[8,16]) {
  %p = bf16[2,16]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %gather.1 = bf16[8,16]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %begun = (bf16[2,16]{1,0}, bf16[8,16]{1,0}) custom-call(%gather.1), custom_call_target="AsyncCollectiveStart"
}

%ending (p: bf16[2,16]) -> bf16[8,16] {
  %p.1 = bf16[2,16]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %gather.2 = bf16[8,16]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %done = bf16[8,16]{1,0} custom-call(%gather.2), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.3 (g: f32[8,16]) -> f32[2,16] {
  %g = f32[8,16]{1,0} parameter(0)
  %whole = f32[8,16]{1,0} all-reduce(%g), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = f32[2,16]{1,0} dynamic-slice(%whole, %zero, %zero), dynamic_slice_sizes={2,16}
}

%body (state: (s32[], f32[4,8,8])) -> (s32[], f32[4,8,8]) {
  %state = (s32[]{:T(128)}, /*index=1*/f32[4,8,8]{2,1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %q = f32[4,8,8]{2,1,0:T(8,128)} get-tuple-element(%state), index=1
  %shard = bf16[2,16]{1,0} constant({...})
  %start = (bf16[2,16]{1,0}, bf16[8,16]{1,0}) fusion(%shard), kind=kCustom, calls=%starting
  %w = bf16[8,16]{1,0} fusion(%shard), kind=kCustom, calls=%ending
  %w.3 = bf16[8,16,1]{1,0,2} bitcast(%w)
  %h = f32[4,8,16]{2,1,0} convolution(%q, %w.3), window={size=1}, dim_labels=0bf_io0->0bf, backend_config={"window_config":{"estimated_cycles":"100"}}
  %s = f32[4,8,8]{2,1,0} convolution(%q, %q), window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf
  %both = f32[4,8,8]{2,1,0} all-reduce(%s), channel_id=2, replica_groups=mesh['a'=2,'b'=2,'c'=2] {'a','c'}, to_apply=%add
  %one = s32[]{:T(128)} constant(1)
  %i.next = s32[]{:T(128)} add(%i, %one)
  ROOT %next = (s32[]{:T(128)}, f32[4,8,8]{2,1,0}) tuple(%i.next, %both)
}

%condition (state: (s32[], f32[4,8,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
  %state.1 = (s32[]{:T(128)}, f32[4,8,8]{2,1,0}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%count, %limit), direction=LT
}

ENTRY %main (a: f32[8,16]) -> f32[2,16] {
  %a = f32[8,16]{1,0:T(8,128)} parameter(0)
  %begin = s32[]{:T(128)} constant(0)
  %begin.1 = s32[]{:T(128)} copy(%begin)
  %values = f32[4,8,8]{2,1,0} custom-call(%a), custom_call_target="Sharding"
  %first = (s32[]{:T(128)}, f32[4,8,8]{2,1,0}) tuple(%begin.1, %values)
  %loop = (s32[]{:T(128)}, f32[4,8,8]{2,1,0}) while(%first), condition=%condition, body=%body
  ROOT %scattered = f32[2,16]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.3
}
"""  # noqa: E501


def test_collectives_by_kind_with_loops_multiplied_out():
    gather = Collective("all-gather", group=4, count=3, bytes=3 * 8 * 16 * 2, wire=3 * 8 * 16 * 2 * 3 / 4)
    reduce = Collective("all-reduce", group=4, count=3, bytes=3 * 4 * 8 * 8 * 4, wire=3 * 4 * 8 * 8 * 4 * 2 * 3 / 4)
    scatter = Collective("reduce-scatter", group=4, count=1, bytes=8 * 16 * 4, wire=8 * 16 * 4 * 3 / 4)
    assert read(PROGRAM).collectives == (reduce, gather, scatter)


def test_products_and_cycles_with_loops_multiplied_out():
    program = read(PROGRAM)
    assert program.flops == 3 * 2 * (4 * 8 * 8 * 16 + 4 * 8 * 8 * 8)
    assert program.cycles == 300
    assert program.unknown_loops == 0


@pytest.mark.parametrize(
    ("old", "new", "length"),
    [
        ("%one = s32[]{:T(128)} constant(1)", "%one = s32[]{:T(128)} constant(2)", 2),
        ("%begin = s32[]{:T(128)} constant(0)", "%begin = s32[]{:T(128)} constant(-1)", 4),
        ("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"5"}}', 5),
    ],
    ids=["step", "start", "stated"],
)
def test_the_length_of_a_loop(old, new, length):
    """TPUs overlap an all-gather with a product by loops that step by 2."""
    assert old in PROGRAM
    assert read(PROGRAM.replace(old, new)).flops == pytest.approx(length / 3 * read(PROGRAM).flops)


@pytest.mark.parametrize(
    ("old", "new"),
    [("direction=LT", "direction=NE"), ("tuple(%begin.1,", "tuple(%a,"), ("add(%i, %one)", "add(%i, %i)")],
)
def test_a_loop_of_unknown_length_is_counted_once_and_said(old, new):
    program = read(PROGRAM.replace(old, new))
    assert program.unknown_loops == 1
    assert program.collectives[0].count == 1
