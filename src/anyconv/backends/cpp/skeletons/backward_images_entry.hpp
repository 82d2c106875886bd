// The backward pass of a map that sees more than one pixel of one image, as it is called.
#pragma once
#include "backward_images.hpp"

namespace anyconv {

// What the parts have summed becomes the gradient of operand p, at filter o of group g.
inline void join_images(const ImagesBackward& work, int p, i64 g, i64 o) {
    const Backward& call = work.call;
    const Strided& to = call.gradient[p];
    const bool whole = Functor::AXES[p] == (O | C | K);
    for (i64 c = 0; c < call.channels; ++c)
        for (i64 k = 0; k < work.images.taps; ++k) {
            double sum = 0;
            for (i64 part = 0; part < call.parts; ++part) sum += work.sums_at(part, g, p, c)[k * call.filters + o];
            const i64 at = (g * call.filters + o) * to.stride[0] + (varies(p, O) ? c : g * call.channels + c) * to.stride[1]
                         + (Functor::WHOLE ? 0 : call.geometry.tap_offset(to, k));
            if (whole) ((T*)to.data)[at] = Narrow<T>::of(R(sum));
            else ((double*)to.data)[at] += sum;
        }
}

inline bool backward_images(const BackwardWork<C>& unplaced) {
    const Backward& call = unplaced.call;
    const i64 operands = up(call.groups * unplaced.packed.size(), V), outer = OUTER * outer_pitch(call.all_filters());
    Scratch memory((operands + outer) * i64(sizeof(R)));
    Scratch sums(ImagesBackward::sums_size(call, unplaced.packed.field) * i64(sizeof(double)));
    if (!memory || !sums) return false;
    fill_outer(call, memory.at<R>(operands));
    const ImagesBackward work({call, unplaced.packed, {memory.at<R>(0), nullptr, nullptr, memory.at<R>(operands)}}, sums.at<double>(0));
    const bool done = work.packed.fill_all(call.team, call.geometry, call.operand, call.groups, memory.at<R>(0))
        && share(call.team, work.tasks(), work.bytes(), [&](i64 i, const Scratch& s) { work.task(i, s); });
    for (int p = 0; done && p < N; ++p)
        for (i64 i = 0; i < call.groups * call.filters; ++i) join_images(work, p, i / call.filters, i % call.filters);
    return done;
}

}  // namespace anyconv

extern "C" ENTRY int anyconv_backward(const anyconv::Backward* call) {
    using namespace anyconv;
    return !backward_images({*call, Packed<C>(taps_of_loop(call->geometry), call->filters, call->channels, 1), {}});
}
