"""Collectives, products and loops, read from a program small enough to count by hand."""

from __future__ import annotations

import pytest

from encdec_jax.aot.collectives import Collective, group_size
from encdec_jax.aot.hlo import read
from encdec_jax.errors import UserError

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


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", 2),
        ("{{0,1,2,3,4,5,6,7}}", 8),
        ("{}", 8),
        ("[4,2]<=[8]", 2),
        ("[2,4]<=[4,2]T(1,0)", 4),
        ("[2,4]<=[2,2,2]T(2,0,1)", 4),
        ("mesh['a'=2,'b'=4] {'b'}", 4),
        ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", 4),
        ("mesh['axis_0'=2,'axis_1'=1,'axis_2'=4], device_ids=([2,4]T(1,0)) {'axis_0'}", 2),
        ("mesh['a'=4,'b'=2], device_ids=([2,2,2]T(2,1,0)) {'a','b'}", 8),
        ("mesh['a'=8], device_ids=(0,2,4,6,1,3,5,7) {'a':(1)4}", 4),
        ("mesh['a'=2,'b'=4] {'a','b':(2)2}", 4),
        ("mesh['a'=2,'b'=4] {}", 1),
    ],
)
def test_the_size_of_a_group_in_every_form(groups, size):
    assert group_size(groups, devices=8) == size
    line = f"%both = f32[4,8,8]{{2,1,0}} all-reduce(%s), channel_id=2, replica_groups={groups}, to_apply=%add"
    body = f'  %s = f32[4,8,8]{{2,1,0}} parameter(0)\n  ROOT {line}, metadata={{op_name="a, b={{"}}'
    found = read(f"HloModule m, num_partitions=8\n\nENTRY %main (s: f32[4,8,8]) -> f32[4,8,8] {{\n{body}\n}}\n")
    assert [one.group for one in found.collectives] == ([size] if size > 1 else [])


@pytest.mark.parametrize(
    "groups",
    [
        "{{0,1},{2,3,4,5,6,7}}",  # of several sizes
        "{{0,1},{2,3}}",  # four devices of eight
        "[4,2]<=[4]",
        "[4,2]<=[8]R(1)",
        "mesh['a'=2,'b'=4] {'c'}",
        "mesh['a'=2,'b'=4] {'b':(1)3}",
        "mesh['a'=2,'b'=2] {'b'}",
        "mesh['a'=2,'b'=4], devices=([8]) {'b'}",
        "ranks(0,1)",
    ],
)
def test_groups_of_an_unknown_form_are_refused(groups):
    with pytest.raises(UserError, match="can't read the compiled program: replica_groups="):
        group_size(groups, devices=8)


# As a GPU's and a plain program have them.
OTHERS = """
HloModule jit_step, num_partitions=4

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%wrapped (p: bf16[8,4]) -> bf16[8,4] {
  %p = bf16[8,4]{1,0} parameter(0)
  ROOT %exchanged = bf16[8,4]{1,0} all-to-all(%p), channel_id=5, replica_groups=[1,4]<=[4], dimensions={0}
}

ENTRY %main (a: bf16[8,4], b: f32[16]) -> f32[16] {
  %a = bf16[8,4]{1,0} parameter(0)
  %b = f32[16]{0} parameter(1)
  %gathering = ((bf16[8,4]{1,0}, f32[16]{0}), (bf16[32,4]{1,0}, f32[64]{0})) all-gather-start(%a, %b), channel_id=1, replica_groups={}, dimensions={0}, use_global_device_ids=true
  %gathered = (bf16[32,4]{1,0}, f32[64]{0}) all-gather-done(%gathering)
  %reducing = (f32[16]{0}, bf16[8,4]{1,0}) all-reduce-start(%b, /*index=1*/%a), channel_id=2, replica_groups=[2,2]<=[2,2]T(1,0), use_global_device_ids=true, to_apply=%add
  %reduced = (f32[16]{0}, bf16[8,4]{1,0}) all-reduce-done(%reducing)
  %moving = (bf16[8,4]{1,0}, bf16[8,4]{1,0}, u32[], u32[]) collective-permute-start(%a), channel_id=3, source_target_pairs={{0,1},{1,0},{2,3},{3,2}}
  %moved = bf16[8,4]{1,0} collective-permute-done(%moving)
  %exchanging = ((bf16[8,4]{1,0}), bf16[8,4]{1,0}, u32[]) async-start(%moved), calls=%wrapped
  %exchanged.1 = bf16[8,4]{1,0} async-done(%exchanging)
  %cutting = ((bf16[8,4]{1,0}), bf16[2,4]{1,0}, u32[]) slice-start(%a), slice={[0:2], [0:4]}
  %cut = bf16[2,4]{1,0} slice-done(%cutting)
  %scattering = ((bf16[8,4]{1,0}), bf16[2,4]{1,0}, u32[]) reduce-scatter-start(%a), channel_id=6, replica_groups=[1,4]<=[4], use_global_device_ids=true, dimensions={0}, to_apply=%add
  %scattered = bf16[2,4]{1,0} reduce-scatter-done(%scattering)
  %still = bf16[8,4]{1,0} collective-permute(%exchanged.1), channel_id=4, source_target_pairs={{0,0},{1,1}}
  ROOT %alone = f32[16]{0} all-reduce(%b), replica_groups={{0}}, to_apply=%add
}
"""  # noqa: E501


def test_what_starts_is_counted_once_and_what_is_combined_whole():
    a, b = 8 * 4 * 2, 16 * 4
    assert set(read(OTHERS).collectives) == {
        Collective("all-gather", 4, 1, 4 * (a + b), 4 * (a + b) * 3 / 4),
        Collective("all-reduce", 2, 1, a + b, a + b),
        Collective("collective-permute", 2, 1, a, a),
        Collective("all-to-all", 4, 1, a, a * 3 / 4),
        Collective("reduce-scatter", 4, 1, a, a * 3 / 4),
    }


def test_what_a_tpu_scatters_is_told_by_what_is_kept():
    """Not by the fusion's name. A reduced value that is read whole is reduced whole."""
    renamed = read(PROGRAM.replace("all-reduce-scatter.3", "fused_computation.3"))
    assert renamed == read(PROGRAM)
    whole = PROGRAM.replace("ROOT %part = ", "%also = f32[8,16]{1,0} negate(%whole)\n  ROOT %part = ")
    assert "reduce-scatter" not in {one.kind for one in read(whole).collectives}
    plain = PROGRAM.replace("kind=kCustom, calls=%all-reduce-scatter.3", "kind=kLoop, calls=%all-reduce-scatter.3")
    assert "reduce-scatter" not in {one.kind for one in read(plain).collectives}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("all-to-all(%p)", "all-to-some(%p)", "the instruction all-to-some"),
        ("slice-start(%a)", "dot-start(%a)", "the instruction dot-start"),
        ("replica_groups={}, ", "", "all-gather-start without replica_groups"),
        ("source_target_pairs={{0,1},", "source_target_pairs={0-1,", "the pairs "),
        ("{{0,0},{1,1}}", "{{0,0},{1,1}}, slice_sizes={{4}}", "collective-permute with slice_sizes"),
        ("bf16[8,4]{1,0} all-to-all", "bf16[4,4]{1,0} all-to-all", "a all-to-all of 32 elements among 4 devices"),
        ("ROOT %exchanged = bf16[8,4]", "ROOT %exchanged = bf16[<=8,4]", "the type "),
        ("  %b = f32[16]{0} parameter(1)", "  %b is f32[16]{0} parameter(1)", "the line "),
        ("async-done(%exchanging)", 'custom-call(%a), custom_call_target="NcclAllReduce"', "custom call NcclAllReduce"),
        ("HloModule jit_step,", "HloModule jit_step, replica_count=2,", "it has 2 replicas"),
        ("ENTRY ", "", "it has no entry"),
    ],
)
def test_what_is_not_known_is_refused(old, new, message):
    assert old in OTHERS
    with pytest.raises(UserError, match="can't read the compiled program: .*" + message):
        read(OTHERS.replace(old, new))


def test_a_chain_that_nothing_starts_is_refused():
    with pytest.raises(UserError, match="asynchronous collectives on channels 1 that nothing starts"):
        read(PROGRAM.replace('"AsyncCollectiveStart"', '"AsyncCollectiveOther"'))


def test_an_instruction_may_go_over_several_lines():
    """As a kernel's does, whose description of itself holds brackets in quotes and lines that only close one."""
    told = (
        ', frontend_attributes={kernel_metadata={\n"of":"{\\"block\\": 128, \\"}\\": [}"\n}\n}, metadata={op_name="f"}'
    )
    assert read(PROGRAM.replace('custom_call_target="Sharding"', 'custom_call_target="Sharding"' + told)) == read(
        PROGRAM
    )
    with pytest.raises(UserError, match="can't read the compiled program"):
        read(PROGRAM.replace('custom_call_target="Sharding"', 'custom_call_target="Sharding"\n}'))
