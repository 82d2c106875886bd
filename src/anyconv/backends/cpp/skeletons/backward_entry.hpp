// The backward pass as it is called: packs the operands, walks, and joins what the parts have summed.
#pragma once
#include "backward_sites.hpp"

namespace anyconv {

// what all tasks of a pass read is made before them
inline bool prepare(const ChannelsBackward&) { return true; }
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

// gradient <- the sums of all parts, over the axes that the operand lacks too, in double
inline void join(const BackwardWork& work, int p, i64 g, i64 k) {
    const Backward& call = work.call;
    const i64* s = call.gradient[p].stride;
    double* at = (double*)call.gradient[p].data + call.geometry.tap_offset(call.gradient[p], k);
    for (i64 o = 0; o < call.filters; ++o)
        for (i64 c = 0; c < call.channels; ++c) {
            double sum = 0;
            for (i64 part = 0; part < call.parts; ++part)
                sum += work.sums(part, g, p, c / V)[(k * call.filters + o) * V + c % V];
            at[(g * call.filters + o) * s[0] + (varies(p, O) ? c : g * call.channels + c) * s[1]] += sum;
        }
}
inline bool join_all(const BackwardWork& work) {
    const Backward& call = work.call;
    const i64 taps = call.geometry.taps();
    bool done = true;
    for (int p = 0; p < N; ++p) {  // where outputs share a gradient, one thread adds, in order
        i64 shared = Functor::AXES[p] == (O | C | K) ? 1 : call.groups * taps;
        done = done && share(call.team, call.groups * taps / shared, 0, [&](i64 task, const Scratch&) {
            for (i64 i = task * shared; i < (task + 1) * shared; ++i) join(work, p, i / taps, i % taps);
        });
    }
    return done;
}

template <class Pass> bool backward(const BackwardWork& unplaced) {
    i64 operands = up(unplaced.call.groups * unplaced.packed.size(), V);
    i64 sums = up(unplaced.call.parts * unplaced.call.groups * unplaced.sums_of_group(), V);
    Scratch memory((operands + sums + Pass(unplaced).pixels_size()) * i64(sizeof(R)));
    if (!memory) return false;
    const BackwardWork work{unplaced.call, unplaced.packed,
                            {memory.at<R>(0), memory.at<R>(operands + sums), memory.at<R>(operands)}};
    const Backward& call = work.call;
    return work.packed.fill_all(call.team, call.geometry, call.operand, call.groups, call.filters, call.channels, work.buffers.operands)
        && run_backward(Pass(work)) && join_all(work);
}

}  // namespace anyconv

extern "C" ENTRY int anyconv_backward(const anyconv::Backward* call) {
    using namespace anyconv;
    const Packed<C> packed(call->geometry.taps(), call->filters, call->channels);
    const BackwardWork work{*call, packed, {}};
    return !(call->lanes_are_sites ? backward<SitesBackward>(work) : backward<ChannelsBackward>(work));
}
