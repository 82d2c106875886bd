// The forward pass as it is called: packs the operands, then shares out (image, group, chunk of sites, part of the filters).
#pragma once
#include "forward_sites.hpp"

namespace anyconv {

template <class Pass> bool run_forward(const Forward& call, const Pass& pass) {
    const i64 chunks = call.geometry.chunks(), unit = Functor::VECTORS * V;
    const i64 part = up((call.filters + call.filter_parts - 1) / call.filter_parts, call.lanes_are_sites ? Functor::FILTERS : unit);
    const i64 parts = (call.filters + part - 1) / part;
    return share(call.team, call.batch * call.groups * chunks * parts, pass.bytes(), [&](i64 task, const Scratch& scratch) {
        i64 p = task % parts, chunk = task / parts % chunks, g = task / parts / chunks % call.groups;
        i64 n = task / parts / chunks / call.groups, last = (p + 1) * part;
        pass.task(n, g, chunk, {p * part, last < call.filters ? last : call.filters}, scratch);
    });
}

template <int PARTS> bool forward(const Forward& call, const Work& work) {
    if (call.lanes_are_sites) return run_forward(call, SitesForward<PARTS>(work));
    return run_forward(call, FiltersForward<PARTS>(work));
}

}  // namespace anyconv

extern "C" ENTRY int anyconv_forward(const anyconv::Forward* call) {
    using namespace anyconv;
    const i64 block = call->lanes_are_sites ? Functor::FILTERS : Functor::VECTORS * V;  // what a tile reads at once
    const Packed<O> packed(call->geometry.taps(), call->channels, call->filters, block);
    Scratch operands(call->groups * packed.size() * i64(sizeof(R)));
    if (!operands) return 1;
    R* at = operands.at<R>(0);
    if (!packed.fill_all(call->team, call->geometry, call->operand, call->groups, at)) return 1;
    const Work work{*call, packed, at};
    return !(call->saves ? forward<Functor::PARTS>(*call, work) : forward<Functor::RESULT>(*call, work));
}
