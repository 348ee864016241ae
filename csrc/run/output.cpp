#include "run/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

namespace fastmnist::run {
namespace {

Status refused(const std::string& path) {
  return Status::invalid(path, "a file that can be written", std::strerror(errno));
}

bool write_and_close(std::FILE* file, std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int error = errno;
  const bool closed = std::fclose(file) == 0;  // what was buffered may fail here
  if (!written) errno = error;
  return written && closed;
}

}  // namespace

Status print(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  return written && std::fflush(stdout) == 0 ? Status() : refused("stdout");
}

bool are_one_file(const std::string& path, const std::string& other) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) &&
         std::filesystem::equivalent(path, other, error) && !error;
}

Status write_output(const std::string& path, std::string_view text) {
  if (path == "-") return print(text);
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status about = fs::status(path, error);
  if (fs::is_directory(about)) return Status::invalid(path, "a file", "a folder");
  if (fs::exists(about) && !fs::is_regular_file(about)) {
    std::FILE* const device = std::fopen(path.c_str(), "wb");
    return device != nullptr && write_and_close(device, text) ? Status() : refused(path);
  }
  // Where a link leads; beside it, so that renaming is one step.
  const fs::path resolved = fs::canonical(path, error);
  const std::string target = error ? path : resolved.string();
  const std::string temporary = target + ".part";
  std::FILE* const file = std::fopen(temporary.c_str(), "wbx");
  if (file == nullptr) return refused(temporary);
  if (write_and_close(file, text) && std::rename(temporary.c_str(), target.c_str()) == 0) return {};
  Status bad = refused(path);
  std::remove(temporary.c_str());
  return bad;
}

}  // namespace fastmnist::run
