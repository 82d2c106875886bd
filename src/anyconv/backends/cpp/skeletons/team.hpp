// Threads: those of the OpenMP runtime that torch uses, entered through a pointer to its GOMP_parallel, so that nothing is
// linked. Tasks are taken from a counter; what a task computes never depends on who takes it or on how many there are.
#pragma once
#include "simd.hpp"

// the C library's, whose headers need not be there
extern "C" void* aligned_alloc(__SIZE_TYPE__, __SIZE_TYPE__) noexcept;
extern "C" void free(void*) noexcept;

namespace anyconv {

typedef void (*Parallel)(void (*)(void*), void*, unsigned, unsigned);
struct Team { Parallel parallel; i64 threads; };

// Memory for one thread, aligned for vectors, and a note of a few numbers that one task may leave for the next: 0 at first.
class Scratch {
    static constexpr i64 NOTE = 64;
    char* memory;
public:
    explicit Scratch(i64 bytes) : memory((char*)aligned_alloc(64, (NOTE + bytes + 127) / 64 * 64)) {
        if (memory) __builtin_memset(memory, 0, NOTE);
    }
    i64* note() const { return (i64*)memory; }
    ~Scratch() { free(memory); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    explicit operator bool() const { return memory != nullptr; }
    template <class T> T* at(i64 index) const { return (T*)(memory + NOTE) + index; }
};

// work(task, scratch) for every task below count; false if there was no memory.
template <class Work> bool share(const Team& team, i64 count, i64 bytes, const Work& work) {
    struct Shared { const Work* work; i64 count, bytes, next; int failed; } shared{&work, count, bytes, 0, 0};
    auto body = [](void* data) {
        Shared& s = *(Shared*)data;
        i64 task = __atomic_fetch_add(&s.next, 1, __ATOMIC_RELAXED);
        if (task >= s.count) return;
        Scratch scratch(s.bytes);
        if (!scratch) { __atomic_store_n(&s.failed, 1, __ATOMIC_RELAXED); return; }
        for (; task < s.count; task = __atomic_fetch_add(&s.next, 1, __ATOMIC_RELAXED)) (*s.work)(task, scratch);
    };
    i64 threads = team.threads < count ? team.threads : count;
    if (threads > 1 && team.parallel) team.parallel(body, &shared, unsigned(threads), 0);
    else body(&shared);
    return !shared.failed;
}

}  // namespace anyconv
