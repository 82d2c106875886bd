// The backward pass as it is called: packs the operands, walks, and joins what the parts have summed.
#pragma once
#include "backward_channels.hpp"
#include "backward_sites.hpp"

namespace anyconv {

// what all tasks of a pass read is made before them
template <int LANE> bool prepare(const ChannelsBackward<LANE>&) { return true; }
inline bool prepare(const SitesBackward& pass) {
    pass.mark();
    return share(pass.call.team, pass.prepare_tasks(), pass.prepare_bytes(), [&](i64 i, const Scratch& s) { pass.prepare(i, s); });
}
template <class Pass> bool run_backward(const Pass& pass) {
    const Team& team = pass.call.team;
    return prepare(pass)
        && share(team, pass.tasks(), pass.bytes(), [&](i64 i, const Scratch& s) { pass.task(i, s); })
        && (!pass.call.wants_pixels
            || share(team, pass.unpack_tasks(), pass.unpack_bytes(), [&](i64 i, const Scratch& s) { pass.unpack(i, s); }));
}

// What the parts have summed of an operand that varies with everything becomes the gradient; filter o of group g.
template <int LANE> void join_filter(const BackwardWork<LANE>& work, int p, i64 g, i64 o, R* rows, i64* at) {
    const Backward& call = work.call;
    const Strided& to = call.gradient[p];
    const i64 taps = call.geometry.taps(), pitch = call.filters * V;
    for (i64 k = 0; k < taps; ++k) at[k] = call.geometry.tap_offset(to, k);
    for (i64 block = 0; block < work.blocks(); ++block) {
        for (i64 k = 0; k < taps; ++k) {
            double sum[V] = {};
            for (i64 part = 0; part < call.parts; ++part) {
                const R* from = work.sums(part, g, p, block) + k * pitch + o * V;
                for (i64 i = 0; i < V; ++i) sum[i] += from[i];
            }
            for (i64 i = 0; i < V; ++i) rows[k * V + i] = R(sum[i]);
        }
        const i64 deep = least(V, call.channels - block * V);
        T* first = LANE == G ? to.at<T>(block * V, 0) : to.at<T>(g * call.filters + o, block * V);
        separate(rows, V, taps, deep, first, to.stride[LANE == G ? 0 : 1], at, (const R*)nullptr);
    }
}
// gradient <- gradient + the sums of all parts at tap k, over the axes that the operand lacks too, in double
template <int LANE> void join_shared(const BackwardWork<LANE>& work, int p, i64 g, i64 k) {
    const Backward& call = work.call;
    const i64* s = call.gradient[p].stride;
    double* at = (double*)call.gradient[p].data + call.geometry.tap_offset(call.gradient[p], k);
    for (i64 o = 0; o < call.filters; ++o)
        for (i64 c = 0; c < call.channels; ++c) {
            double sum = 0;
            for (i64 part = 0; part < call.parts; ++part)
                sum += work.sums(part, g, p, c / V)[(k * call.filters + o) * V + c % V];
            if constexpr (LANE == G) at[varies(p, O) ? c * s[0] : c * s[1]] += sum;
            else at[(g * call.filters + o) * s[0] + (varies(p, O) ? c : g * call.channels + c) * s[1]] += sum;
        }
}
template <int LANE> bool join_all(const BackwardWork<LANE>& work) {
    const Backward& call = work.call;
    const i64 taps = call.geometry.taps(), bytes = taps * (V * i64(sizeof(R)) + i64(sizeof(i64)));
    bool done = true;
    for (int p = 0; p < N; ++p) {
        if (Functor::AXES[p] == (O | C | K)) {
            done = done && share(call.team, call.groups * call.filters, bytes, [&](i64 task, const Scratch& scratch) {
                R* rows = scratch.at<R>(0);
                join_filter(work, p, task / call.filters, task % call.filters, rows, (i64*)(rows + taps * V));
            });
        } else {  // outputs share a gradient: one thread adds, in order
            for (i64 i = 0; i < call.groups * taps; ++i) join_shared(work, p, i / taps, i % taps);
        }
    }
    return done;
}

template <class Pass, int LANE> bool backward(const BackwardWork<LANE>& unplaced) {
    i64 operands = up(unplaced.call.groups * unplaced.packed.size(), V);
    i64 sums = up(unplaced.call.parts * unplaced.call.groups * unplaced.sums_of_group(), V);
    i64 outer = OUTER * up(outer_pitch(unplaced.call.all_filters()), V);
    Scratch memory((operands + sums + outer + Pass(unplaced).pixels_size()) * i64(sizeof(R)));
    if (!memory) return false;
    fill_outer(unplaced.call, memory.at<R>(operands + sums));
    const BackwardWork<LANE> work{
        unplaced.call, unplaced.packed,
        {memory.at<R>(0), memory.at<R>(operands + sums + outer), memory.at<R>(operands), memory.at<R>(operands + sums)}};
    const Backward& call = work.call;
    return work.packed.fill_all(call.team, call.geometry, call.operand, call.groups, work.buffers.operands)
        && run_backward(Pass(work)) && join_all(work);
}

}  // namespace anyconv

extern "C" ENTRY int anyconv_backward(const anyconv::Backward* given) {
    using namespace anyconv;
    Backward call = *given;
    const i64 taps = call.geometry.taps();
    if constexpr (variant::LANES == GROUPS) {
        call.channels = call.groups, call.groups = 1;  // as lanes of one
        return !backward<ChannelsBackward<G>>(BackwardWork<G>{call, Packed<G>(taps, 1, call.channels, V), {}});
    } else if constexpr (variant::LANES == SITES) {
        return !backward<SitesBackward>(BackwardWork<C>{call, Packed<C>(taps, call.filters, call.channels, 1), {}});
    } else {
        return !backward<ChannelsBackward<C>>(BackwardWork<C>{call, Packed<C>(taps, call.filters, call.channels, V), {}});
    }
}
