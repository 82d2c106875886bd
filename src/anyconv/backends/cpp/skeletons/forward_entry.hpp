// The forward pass as it is called: packs the operands, then shares out (image, group, chunk of sites, part of the filters).
#pragma once
#include "forward_sites.hpp"

namespace anyconv {

template <class Pass> bool run_forward(const Forward& call, const Pass& pass) {
    const i64 chunks = call.geometry.chunks(), part = call.part(Pass::UNIT), parts = (call.filters + part - 1) / part;
    return share(call.team, call.batch * call.groups * chunks * parts, pass.bytes(), [&](i64 task, const Scratch& scratch) {
        i64 p = task % parts, chunk = task / parts % chunks, g = task / parts / chunks % call.groups;
        i64 n = task / parts / chunks / call.groups, last = (p + 1) * part;
        pass.task(n, g, chunk, {p * part, last < call.filters ? last : call.filters}, scratch);
    });
}

constexpr int STATE_PARTS = variant::SAVES ? Functor::PARTS : Functor::RESULT;  // of the states that are folded
template <Lanes LANES> struct Pass { typedef FiltersForward<STATE_PARTS, LANES> type; };
template <> struct Pass<SITES> { typedef SitesForward<STATE_PARTS> type; };

template <int LANE> bool forward(const Forward& call) {
    const i64 block = variant::LANES == SITES ? Functor::FILTERS : Functor::VECTORS * V;  // what a tile reads at once
    const Packed<LANE> packed(taps_of_loop(call.geometry), call.channels, call.filters, block);
    const i64 size = up(call.groups * packed.size(), V);
    Scratch operands((size + OUTER * outer_pitch(call.all_filters())) * i64(sizeof(R)));
    if (!operands) return false;
    R* at = operands.at<R>(0);
    fill_outer(call, at + size);
    if (!packed.fill_all(call.team, call.geometry, call.operand, call.groups, at)) return false;
    const Work<LANE> work{call, packed, at, at + size};
    return run_forward(call, typename Pass<variant::LANES>::type(work));
}

}  // namespace anyconv

extern "C" ENTRY int anyconv_forward(const anyconv::Forward* given) {
    using namespace anyconv;
    Forward call = *given;
    if constexpr (variant::LANES == GROUPS) {
        call.filters = call.groups, call.groups = 1;  // as lanes of one
        return !forward<G>(call);
    } else {
        return !forward<O>(call);
    }
}
