// A file in the layout of safetensors, opened without trust.
//
//     8 bytes   n, the length of the header, lowest first
//     n bytes   JSON: by name, each tensor's dtype, shape and data_offsets; "__metadata__": texts
//     the rest  the tensors' bytes, in the order of their offsets
//
// The layout is taken strictly, as its makers do: tensors follow each other without holes or
// overlaps, and the last one ends where the file ends, so that a file has one meaning and hides
// nothing. A header has at most kMostHeader bytes, and no more than there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/export.h"
#include "core/files.h"
#include "core/status.h"
#include "files/array.h"
#include "files/json.h"

namespace fastmnist {

inline constexpr std::uint64_t kMostHeader = 100'000'000;

// Bytes that stay where they are: of an open file, or in memory of the caller's.
class Source {
 public:
  Source() = default;
  explicit Source(InputFile file) : file_(std::move(file)), size_(file_.size()) {}
  explicit Source(std::span<const std::byte> bytes)
      : bytes_(bytes), in_memory_(true), size_(bytes.size()) {}

  std::uint64_t size() const { return size_; }
  bool in_memory() const { return in_memory_; }
  // Within size(), and in_memory().
  std::span<const std::byte> look(std::uint64_t offset, std::uint64_t count) const {
    return bytes_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(count));
  }
  // Within size().
  Status read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  InputFile file_;
  std::span<const std::byte> bytes_;
  bool in_memory_ = false;
  std::uint64_t size_ = 0;
};

class FASTMNIST_API Container {
 public:
  struct Place {
    Dtype dtype;
    Shape shape;
    std::uint64_t offset;  // into the file
    std::uint64_t bytes;
  };
  using Places = std::map<std::string_view, Place, std::less<>>;

  static Result<Container> open(Source source);

  // By name. Numbers are not read yet.
  const Places& tensors() const { return places_; }
  std::optional<std::string_view> metadata(std::string_view key) const;

  // Reads one; a look at memory of the caller's where it lies there and is aligned.
  Result<Array> read(const Place& place) const;

 private:
  Status read_header();
  Status add(JsonValue tensor, std::uint64_t data);
  Status check_layout(std::uint64_t data) const;

  Source source_;
  std::unique_ptr<char[]> text_;
  Json header_;
  Places places_;
};

}  // namespace fastmnist
