// Small files of the library's own, read and replaced whole, and large ones of the user's, read in
// pieces.
//
// The library's own only save work (what was measured, for the next process), so a file that cannot
// be read or written is no error: these functions say so, and callers do without. Other processes
// may read and write the same file meanwhile; whoever changes one holds its FileLock from reading
// to replacing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/export.h"
#include "core/status.h"
#include "core/system.h"

namespace fastmnist {

// Whether the system has files; otherwise none can be read or written.
#if defined(FASTMNIST_POSIX)
inline constexpr bool kFiles = true;
#else
inline constexpr bool kFiles = false;
#endif

// A regular file's bytes. Nothing where there is none, or it cannot be read or is longer than
// `most`.
FASTMNIST_API std::optional<std::string> read_file(const std::string& path, std::size_t most);

// The file holds `content` afterwards (true), or what it held before (false): others never see a
// part. Makes the folders that it lies in, and follows links.
FASTMNIST_API bool replace_file(const std::string& path, std::string_view content);

// Keeps other processes out meanwhile, where the system can; does without where another one keeps
// the lock for a second. The file at `path` stays, and is empty.
class FASTMNIST_API FileLock {
 public:
  explicit FileLock(const std::string& path);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  [[maybe_unused]] int file_;  // -1: not locked
};

// A regular file that stays open and is read piece by piece, into memory of the caller's. It is not
// mapped: whoever cuts a mapped file short ends the process of its readers.
class FASTMNIST_API InputFile {
 public:
  InputFile() = default;
  InputFile(InputFile&& other) noexcept
      : file_(std::exchange(other.file_, -1)), size_(other.size_) {}
  InputFile& operator=(InputFile&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~InputFile();

  // not_found where there is no such file.
  static Result<InputFile> open(const std::string& path);

  std::uint64_t size() const { return size_; }  // when it was opened
  // All of `bytes`, from `offset` on. By any number of threads at once.
  Status read(std::uint64_t offset, std::span<std::byte> bytes) const;

 private:
  int file_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace fastmnist
