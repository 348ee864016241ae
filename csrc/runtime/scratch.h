// Working memory, aligned to 64 bytes, kept between calls.
//
// A model owns a pool; a call leases one buffer and returns it. After the first call of the largest
// shape no call allocates. Several threads may lease at once: each gets a buffer of its own. There
// is no lock, so that a child forked in the middle finds a pool that works: a buffer is always
// either in its slot or with whoever leased it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "core/export.h"

namespace fastmnist {

// A buffer's first 64 bytes say how long it is; its user gets what lies behind them.
struct alignas(64) ScratchBuffer {
  std::int64_t bytes;

  // nullptr where there is no such memory.
  static ScratchBuffer* make(std::int64_t bytes) {
    void* memory = ::operator new (sizeof(ScratchBuffer) + static_cast<std::size_t>(bytes),
                                   std::align_val_t{64}, std::nothrow);
    return memory != nullptr ? new (memory) ScratchBuffer{bytes} : nullptr;
  }
  static void free(ScratchBuffer* buffer) { ::operator delete (buffer, std::align_val_t{64}); }
  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
};

class ScratchPool {
 public:
  ScratchPool() = default;
  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;
  ~ScratchPool() {
    for (std::atomic<ScratchBuffer*>& slot : slots_) ScratchBuffer::free(slot.load());
  }

  // A buffer of at least so many bytes, or nullptr where there is no such memory. One that was kept
  // and is too small makes way for a larger one, so that a pool never holds more buffers than were
  // leased at once.
  ScratchBuffer* lease(std::int64_t bytes) {
    for (std::atomic<ScratchBuffer*>& slot : slots_) {
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      ScratchBuffer* kept = slot.exchange(nullptr, std::memory_order_acquire);
      if (kept == nullptr) continue;
      if (kept->bytes >= bytes) return kept;
      ScratchBuffer::free(kept);
      break;
    }
    return ScratchBuffer::make(bytes);
  }

  void give_back(ScratchBuffer* buffer) {
    for (std::atomic<ScratchBuffer*>& slot : slots_) {
      ScratchBuffer* empty = nullptr;
      if (slot.compare_exchange_strong(empty, buffer, std::memory_order_release,
                                       std::memory_order_relaxed))
        return;
    }
    ScratchBuffer::free(buffer);
  }

 private:
  static constexpr int kSlots = 4;
  std::atomic<ScratchBuffer*> slots_[kSlots] = {};
};

// For callers that have no place of their own to keep a pool. Never destroyed, as threads may still
// run when the process ends.
FASTMNIST_API ScratchPool* shared_scratch();

// Leases for a scope. Without a pool the buffer is simply allocated and freed. Whether there was
// memory must be asked first.
class ScratchLease {
 public:
  ScratchLease(ScratchPool* pool, std::int64_t bytes)
      : pool_(pool), buffer_(pool != nullptr ? pool->lease(bytes) : ScratchBuffer::make(bytes)) {}
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  ~ScratchLease() {
    if (pool_ != nullptr && buffer_ != nullptr)
      pool_->give_back(buffer_);
    else
      ScratchBuffer::free(buffer_);
  }
  bool ok() const { return buffer_ != nullptr; }
  std::byte* get() const { return buffer_->data(); }

 private:
  ScratchPool* pool_;
  ScratchBuffer* buffer_;
};

}  // namespace fastmnist
