// Everything that the library asks of an operating system (except for cpu.cpp's request for tile
// registers): a handful of functions, each with an answer for builds without a system.
//
// There are two sets of them: one for Linux and other POSIX systems, and one for systems that have
// none of this (WebAssembly), or for a build that must do without (FASTMNIST_NO_OS). core/system.h
// decides which is compiled, here and for files (core/files.h); nothing else in the library asks
// what system it is on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/export.h"

namespace fastmnist::os {

// CPUs that the process may use: its affinity mask, and in a container the CPU quota (cgroup v2).
// At least 1.
FASTMNIST_API int available_cpus();

// Size of the data cache of a level (1 to 3) as the system states it, of the first CPU; 0 where it
// does not. Reads files: core/caches.h keeps the answers.
FASTMNIST_API std::int64_t cache_bytes(int level);

// 0 where the system does not say.
FASTMNIST_API std::int64_t physical_memory();

// An environment variable; nullptr where it is not set, or empty.
FASTMNIST_API const char* environment(const char* name);

// Where programs of this user keep what only saves work; "" where the system has no such place.
FASTMNIST_API std::string user_cache_folder();

// Starts a thread that nobody waits for. False where the system refuses, or has none.
bool start_thread(void* (*function)(void*), void* context);

// Handlers that keep state consistent across forks: called before each, then in the parent and in
// the child, which has none of the parent's other threads. nullptr: nothing to do. Never called
// where processes cannot fork, nor in a build without threads, where no other thread can leave
// anything half done.
FASTMNIST_API void around_fork(void (*before)(), void (*in_parent)(), void (*in_child)());

// Hints that these bytes will be accessed at random, so that page tables can be kept small.
FASTMNIST_API void ask_for_huge_pages(void* memory, std::int64_t bytes);

}  // namespace fastmnist::os
