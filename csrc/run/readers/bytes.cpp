#include "run/readers/bytes.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace fastmnist::run {
namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// The size of a file, 0 of a pipe; refused is what has no end, or is none of both.
Result<std::size_t> stated_size(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status about = std::filesystem::status(path, error);
  using Type = std::filesystem::file_type;
  if (about.type() == Type::not_found) return Status::invalid("expected a file, got none there");
  if (about.type() == Type::directory) return Status::invalid("expected a file, got a folder");
  if (about.type() == Type::fifo) return std::size_t{0};
  if (about.type() != Type::regular)
    return Status::invalid("expected a file, got " + (error ? error.message() : "a device"));
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return Status::invalid("expected a file, got " + error.message());
  if (size > kMostFileBytes)
    return Status::invalid("expected at most " + std::to_string(kMostFileBytes) + " bytes, got " +
                           std::to_string(size));
  return static_cast<std::size_t>(size);
}

}  // namespace

Result<Bytes> read_bytes(const std::string& path) {
  Result<std::size_t> stated = stated_size(path);
  if (!stated.ok()) return std::move(stated).status();
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr)
    return Status::invalid(std::string("expected a file that can be read, got ") +
                           std::strerror(errno));
  // One byte more, so that the end is seen at once.
  Result<Bytes> bytes = Bytes::of(*stated + 1);
  if (!bytes.ok()) return bytes;
  std::size_t size = 0;
  while (true) {
    const std::size_t got = std::fread((*bytes).data() + size, 1, bytes->size() - size, file.get());
    size += got;
    if (got == 0) break;
    if (size > kMostFileBytes)
      return Status::invalid("expected at most " + std::to_string(kMostFileBytes) +
                             " bytes, got more");
    if (size < bytes->size()) continue;
    if (Status bad = (*bytes).resize(std::max<std::size_t>(2 * size, 65536)); !bad.ok()) return bad;
  }
  if (std::ferror(file.get()) != 0)
    return Status::invalid(std::string("expected a file that can be read, got ") +
                           std::strerror(errno));
  (*bytes).shrink(size);
  return bytes;
}

}  // namespace fastmnist::run
