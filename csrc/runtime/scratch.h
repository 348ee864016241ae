// Working memory, aligned to 64 bytes, kept between calls.
//
// A model owns a pool; a call leases one buffer and returns it. After the first call of a shape no
// call allocates. Several threads may lease at once: each gets a buffer of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

namespace fastmnist {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::int64_t bytes)
      : bytes_(bytes),
        data_(static_cast<std::byte*>(
            ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{64}))) {}
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : bytes_(std::exchange(other.bytes_, 0)), data_(std::exchange(other.data_, nullptr)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~AlignedBuffer() { ::operator delete (data_, std::align_val_t{64}); }
  std::byte* get() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
  std::byte* data_ = nullptr;
};

class ScratchPool {
 public:
  // A buffer of at least so many bytes: a kept one that is large enough, else a new one.
  AlignedBuffer lease(std::int64_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (AlignedBuffer& kept : kept_)
        if (kept.bytes() >= bytes) return std::move(kept);
    }
    return AlignedBuffer(bytes);
  }

  // Keeps the buffer in place of the smallest one, if it is larger.
  void give_back(AlignedBuffer buffer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    AlignedBuffer* smallest = &kept_[0];
    for (AlignedBuffer& kept : kept_)
      if (kept.bytes() < smallest->bytes()) smallest = &kept;
    if (smallest->bytes() < buffer.bytes()) std::swap(*smallest, buffer);
  }

 private:
  static constexpr int kKept = 4;
  std::mutex mutex_;
  AlignedBuffer kept_[kKept];
};

// Leases for a scope. Without a pool the buffer is simply allocated and freed.
class ScratchLease {
 public:
  ScratchLease(ScratchPool* pool, std::int64_t bytes)
      : pool_(pool), buffer_(pool != nullptr ? pool->lease(bytes) : AlignedBuffer(bytes)) {}
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  ~ScratchLease() {
    if (pool_ != nullptr) pool_->give_back(std::move(buffer_));
  }
  std::byte* get() const { return buffer_.get(); }

 private:
  ScratchPool* pool_;
  AlignedBuffer buffer_;
};

}  // namespace fastmnist
