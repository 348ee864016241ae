/* Counts heap allocations and live bytes of a process; loaded with LD_PRELOAD by allocations.py.
 *
 * operator new calls malloc or aligned_alloc, so it is counted with them. Bytes are those that the
 * allocator set aside (malloc_usable_size). Nothing here allocates: what dlsym needs while it looks
 * the real functions up comes from a small static block. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

static _Atomic long g_calls;
static _Atomic long g_live;

long shim_calls(void) { return atomic_load(&g_calls); }
long shim_live_bytes(void) { return atomic_load(&g_live); }

static char g_block[65536];
static size_t g_block_used;

static int in_block(void* p) { return (char*)p >= g_block && (char*)p < g_block + sizeof g_block; }

static void* from_block(size_t size) {
  size_t start = (g_block_used + 63) / 64 * 64;
  if (start + size > sizeof g_block) return NULL;
  g_block_used = start + size;
  return g_block + start;
}

static void* (*real_malloc)(size_t);
static void* (*real_calloc)(size_t, size_t);
static void* (*real_realloc)(void*, size_t);
static void* (*real_aligned_alloc)(size_t, size_t);
static int (*real_posix_memalign)(void**, size_t, size_t);
static void (*real_free)(void*);
static int g_looking_up;

static int ready(void) {
  if (real_free != NULL) return 1;
  if (g_looking_up) return 0;
  g_looking_up = 1;
  real_malloc = (void* (*)(size_t))dlsym(RTLD_NEXT, "malloc");
  real_calloc = (void* (*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
  real_realloc = (void* (*)(void*, size_t))dlsym(RTLD_NEXT, "realloc");
  real_aligned_alloc = (void* (*)(size_t, size_t))dlsym(RTLD_NEXT, "aligned_alloc");
  real_posix_memalign = (int (*)(void**, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign");
  real_free = (void (*)(void*))dlsym(RTLD_NEXT, "free");
  g_looking_up = 0;
  return 1;
}

static void* counted(void* p) {
  atomic_fetch_add(&g_calls, 1);
  if (p != NULL) atomic_fetch_add(&g_live, (long)malloc_usable_size(p));
  return p;
}

static void forgotten(void* p) {
  if (p != NULL) atomic_fetch_sub(&g_live, (long)malloc_usable_size(p));
}

void* malloc(size_t size) { return ready() ? counted(real_malloc(size)) : from_block(size); }

void* calloc(size_t count, size_t size) {
  return ready() ? counted(real_calloc(count, size)) : from_block(count * size);
}

void* realloc(void* p, size_t size) {
  if (!ready()) return NULL;
  if (in_block(p)) {
    void* moved = malloc(size);
    size_t kept = (size_t)(g_block + sizeof g_block - (char*)p);
    if (moved != NULL) memcpy(moved, p, size < kept ? size : kept);
    return moved;
  }
  forgotten(p);
  return counted(real_realloc(p, size));
}

void* aligned_alloc(size_t alignment, size_t size) {
  return ready() ? counted(real_aligned_alloc(alignment, size)) : NULL;
}

void* memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }

int posix_memalign(void** p, size_t alignment, size_t size) {
  if (!ready()) return ENOMEM;
  int error = real_posix_memalign(p, alignment, size);
  counted(error == 0 ? *p : NULL);
  return error;
}

void free(void* p) {
  if (p == NULL || in_block(p) || !ready()) return;
  forgotten(p);
  real_free(p);
}
