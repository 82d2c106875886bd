// Between the tensors, where the pixels of a channel are neighbors, and the kernels, where the channels of a pixel are.
#pragma once
#include "storage.hpp"
#include "team.hpp"

namespace anyconv {

// Swaps rows and columns of a square of V x V numbers in registers: blocks of 1, 2, 4, ... change places.
template <class F, int H> INLINE void exchange(F& a, F& b) {
    constexpr int n = lanes_of<F>;
    Mask<F> low, high;
    for (int j = 0; j < n; ++j) low[j] = j & H ? n + j - H : j, high[j] = j & H ? n + j : j + H;
#if defined(__clang__)
    F x = a, y = b;
    for (int j = 0; j < n; ++j) a[j] = j & H ? y[j - H] : x[j], b[j] = j & H ? y[j] : x[j + H];
#else
    F x = __builtin_shuffle(a, b, low);
    b = __builtin_shuffle(a, b, high);
    a = x;
#endif
}
template <class F, int H = 1> INLINE void transpose(F (&m)[lanes_of<F>]) {
    if constexpr (H < lanes_of<F>) {
        UNROLL
        for (int i = 0; i < lanes_of<F>; ++i)
            if (!(i & H)) exchange<F, H>(m[i], m[i + H]);
        transpose<F, 2 * H>(m);
    }
}

// some lanes at once; only half precisions are stored otherwise than they are computed
template <class F, class T> constexpr bool as_it_is = sizeof(T) == sizeof(Real<F>);
template <class F, class T> INLINE F read(const T* from, i64 count) {
    if constexpr (as_it_is<F, T>) {
        return load<F>(from, count);
    } else {
        Real<F> line[lanes_of<F>] = {};
        for (i64 i = 0; i < count; ++i) line[i] = widen(from[i]);
        return load<F>(line);
    }
}
template <class F, class T> INLINE void write(T* to, F value, i64 count) {
    if constexpr (as_it_is<F, T>) store<F>(to, value, count);
    else for (i64 i = 0; i < count; ++i) to[i] = Narrow<T>::of(value[i]);
}

template <class T, class R> INLINE void copy(const T* from, i64 count, R* to) {
    for (i64 i = 0; i < count; ++i) to[i] = widen(from[i]);
}
template <class R> INLINE void copy(const R* from, i64 count, R* to) {  // rows are short: no call
    typedef typename VectorOf<R>::type F;
    constexpr int V = lanes_of<F>;
    i64 i = 0;
    for (; i + V <= count; i += V) store<F>(to + i, load<F>(from + i));
    if (i < count) store<F>(to + i, load<F>(from + i, count - i), count - i);
}
// to[i] <- from[i * step], in the type of the arithmetic
template <class T, class R> INLINE void collect(const T* from, i64 step, i64 count, R* to) {
    if (step == 1) copy(from, count, to);
    else for (i64 i = 0; i < count; ++i) to[i] = widen(from[i * step]);
}
// to[i * step] <- from[i], in the type of the tensor
template <class T, class R> INLINE void emit(const R* from, i64 count, T* to, i64 step) {
    for (i64 i = 0; i < count; ++i) to[i * step] = Narrow<T>::of(from[i]);
}
template <class R> INLINE void emit(const R* from, i64 count, R* to, i64 step) {
    if (step == 1) copy(from, count, to);
    else for (i64 i = 0; i < count; ++i) to[i * step] = from[i];
}
// to[i] <- to[i] + from[i]
template <class R> INLINE void add(const R* from, i64 count, R* to) {
    typedef typename VectorOf<R>::type F;
    constexpr int V = lanes_of<F>;
    i64 i = 0;
    for (; i + V <= count; i += V) store<F>(to + i, load<F>(to + i) + load<F>(from + i));
    if (i < count) store<F>(to + i, load<F>(to + i, count - i) + load<F>(from + i, count - i), count - i);
}

// to[i * pitch + c] <- from[c * across + i * along]
template <class T, class R>
NOINLINE void interleave(const T* from, i64 across, i64 along, i64 pixels, i64 channels, R* to, i64 pitch) {
    typedef typename VectorOf<R>::type F;
    constexpr int V = lanes_of<F>;
    if (across == 1 || channels == 1) {
        for (i64 i = 0; i < pixels; ++i) copy(from + i * along, channels, to + i * pitch);
        return;
    }
    for (i64 c = 0; c < channels; c += V)
        for (i64 i = 0; i < pixels; i += V) {
            const i64 wide = pixels - i < V ? pixels - i : V, deep = channels - c < V ? channels - c : V;
            const T* corner = from + c * across + i * along;
            R* line = to + i * pitch + c;
            if (along != 1) {
                for (i64 w = 0; w < wide; ++w) collect(corner + w * along, across, deep, line + w * pitch);
                continue;
            }
            F square[V];  // in registers, as all loops over it are unrolled
            UNROLL
            for (int j = 0; j < V; ++j) square[j] = read<F>(corner + (j < deep ? j : 0) * across, wide);
            transpose(square);
            UNROLL
            for (int w = 0; w < V; ++w)
                if (w < wide) store<F>(line + w * pitch, square[w], deep);
        }
}

// to[c * across + at[i]] <- from[i * pitch + c] + add[c]; nothing is added where add is null
template <class T, class R>
NOINLINE void separate(const R* from, i64 pitch, i64 pixels, i64 channels, T* to, i64 across, const i64* at, const R* add) {
    typedef typename VectorOf<R>::type F;
    constexpr int V = lanes_of<F>;
    for (i64 i = 0; i < pixels; i += V) {
        const i64 wide = pixels - i < V ? pixels - i : V;
        const bool joined = at[i + wide - 1] - at[i] == wide - 1;  // the offsets ascend
        for (i64 c = 0; c < channels; c += V) {
            const i64 deep = channels - c < V ? channels - c : V;
            if (across != 1 && !joined) {
                for (i64 w = 0; w < wide; ++w)
                    for (i64 j = c; j < c + deep; ++j)
                        to[j * across + at[i + w]] = Narrow<T>::of(from[(i + w) * pitch + j] + (add ? add[j] : R(0)));
                continue;
            }
            const F more = add ? load<F>(add + c) : F{};
            F square[V];  // in registers, as all loops over it are unrolled
            UNROLL
            for (int w = 0; w < V; ++w) {
                square[w] = load<F>(from + (i + (w < wide ? w : 0)) * pitch + c);
                if (add) square[w] += more;
            }
            if (across == 1) {
                UNROLL
                for (int w = 0; w < V; ++w)
                    if (w < wide) write<F>(to + c + at[i + w], square[w], deep);
                continue;
            }
            transpose(square);
            T* corner = to + c * across + at[i];
            UNROLL
            for (int j = 0; j < V; ++j)
                if (j < deep) write<F>(corner + j * across, square[j], wide);
        }
    }
}

}  // namespace anyconv
