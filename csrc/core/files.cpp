#include "core/files.h"

#if defined(FASTMNIST_POSIX)

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <system_error>

namespace fastmnist {
namespace {

// A descriptor that is closed on every way out, and not inherited by programs that are started.
class File {
 public:
  File(const std::string& path, int flags)
      : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(); }

  bool is_open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  bool close() {
    const bool closed = is_open() && ::close(descriptor_) == 0;
    descriptor_ = -1;
    return closed;
  }

 private:
  int descriptor_;
};

void make_folders_of(const std::string& path) {
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    ::mkdir(path.substr(0, at).c_str(), 0777);  // what cannot be made, opening the file will tell
}

// Where a link leads; the path itself where there is nothing yet.
std::string behind_links(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;
  std::string target = resolved;
  std::free(resolved);
  return target;
}

bool write_all(int file, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(file, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// Beside the file, so that renaming is one step; of this process and call alone.
std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> count{0};
  const std::size_t slash = path.rfind('/');
  const std::size_t name = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(0, name) + "." + path.substr(name) + "." + std::to_string(::getpid()) + "." +
         std::to_string(count.fetch_add(1));
}

}  // namespace

std::optional<std::string> read_file(const std::string& path, std::size_t most) {
  const File file(path, O_RDONLY | O_NONBLOCK);  // a pipe would be waited for
  struct stat about {};
  if (!file.is_open() || ::fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode))
    return std::nullopt;
  std::string content;
  char part[16384];
  while (true) {
    const ssize_t got = ::read(file.get(), part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) return content;
    content.append(part, static_cast<std::size_t>(got));
    if (content.size() > most) return std::nullopt;
  }
}

bool replace_file(const std::string& path, std::string_view content) {
  make_folders_of(path);
  const std::string target = behind_links(path);
  struct stat about {};
  if (::stat(target.c_str(), &about) == 0 && !S_ISREG(about.st_mode)) return false;
  const std::string temporary = temporary_name(target);
  File file(temporary, O_WRONLY | O_CREAT | O_EXCL);
  if (!file.is_open()) return false;
  const bool written = write_all(file.get(), content);
  if (file.close() && written && std::rename(temporary.c_str(), target.c_str()) == 0) return true;
  ::unlink(temporary.c_str());
  return false;
}

FileLock::FileLock(const std::string& path) : file_(-1) {
  // A process that was stopped, or a file server that is gone, may keep the lock for good.
  constexpr int kTries = 200;
  constexpr timespec kBetween{0, 5'000'000};  // nanoseconds
  make_folders_of(path);
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  for (int i = 0; file_ >= 0 && i < kTries && ::flock(file_, LOCK_EX | LOCK_NB) != 0; ++i) {
    if (errno != EINTR && errno != EWOULDBLOCK) break;  // not a file system that can lock
    ::nanosleep(&kBetween, nullptr);
  }
}

FileLock::~FileLock() {
  if (file_ < 0) return;
  ::flock(file_, LOCK_UN);  // closing would not do: a forked child may have the file open, too
  ::close(file_);
}

InputFile::~InputFile() {
  if (file_ >= 0) ::close(file_);
}

Result<InputFile> InputFile::open(const std::string& path) {
  InputFile file;
  file.file_ =
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would be waited for
  const int error = errno;
  struct stat about {};
  if (file.file_ < 0 && (error == ENOENT || error == ENOTDIR))
    return Status::not_found("path: expected a model file, got '" + path + "', which is no file");
  if (file.file_ < 0)
    return Status::invalid("path", "a file that can be read",
                           "'" + path + "': " + std::generic_category().message(error));
  if (::fstat(file.file_, &about) != 0 || !S_ISREG(about.st_mode))
    return Status::not_found("path: expected a model file, got '" + path + "', which is no file");
  file.size_ = static_cast<std::uint64_t>(about.st_size);
  return file;
}

Status InputFile::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      return Status::invalid("file", "as many bytes as when it was opened",
                             got == 0 ? "fewer" : std::generic_category().message(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

}  // namespace fastmnist

#else

namespace fastmnist {

std::optional<std::string> read_file(const std::string&, std::size_t) { return std::nullopt; }
bool replace_file(const std::string&, std::string_view) { return false; }
FileLock::FileLock(const std::string&) : file_(-1) {}
FileLock::~FileLock() = default;
InputFile::~InputFile() = default;
Result<InputFile> InputFile::open(const std::string& path) {
  return Status::not_found("path: expected a model in memory, as this build knows no files, got '" +
                           path + "'");
}
Status InputFile::read(std::uint64_t, std::span<std::byte>) const {
  return Status::invalid("file", "a system that has files", "none");
}

}  // namespace fastmnist

#endif
