#include "run/readers/inflate.h"

#include "run/readers/bytes.h"

#if defined(FASTMNIST_ZLIB)
#include <zlib.h>
#endif

namespace fastmnist::run {

bool is_gzip(ByteSpan bytes) { return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b; }

#if defined(FASTMNIST_ZLIB)

namespace {

// One zlib stream, freed on every way out. zlib counts in 32 bits: longer spans go in pieces.
class Inflater {
 public:
  // 15: windows of any size; + 16: gzip, not zlib.
  explicit Inflater(int window) : ready_(::inflateInit2(&stream_, window) == Z_OK) {}
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() {
    if (ready_) ::inflateEnd(&stream_);
  }
  bool ready() const { return ready_; }
  void reset() { ::inflateReset(&stream_); }

  // Moves `from` and `to` on; Z_STREAM_END at the end, Z_OK where either of them is used up.
  int inflate(ByteSpan& from, std::span<std::uint8_t>& to) {
    constexpr std::size_t kPiece = std::size_t{1} << 30;
    const std::size_t in = std::min(from.size(), kPiece), out = std::min(to.size(), kPiece);
    stream_.next_in = const_cast<Bytef*>(from.data());
    stream_.avail_in = static_cast<uInt>(in);
    stream_.next_out = to.data();
    stream_.avail_out = static_cast<uInt>(out);
    const int result = ::inflate(&stream_, Z_NO_FLUSH);
    from = from.subspan(in - stream_.avail_in);
    to = to.subspan(out - stream_.avail_out);
    return result;
  }

  Status refuse(int result) const {
    if (result == Z_MEM_ERROR) return Status::out_of_memory();
    if (result == Z_OK || result == Z_BUF_ERROR)
      return Status::invalid("expected more compressed bytes, got the end: it is truncated");
    if (result == Z_NEED_DICT)
      return Status::invalid("expected compressed bytes, got some that want a dictionary");
    return Status::invalid(std::string("expected sound compressed bytes, got '") +
                           (stream_.msg != nullptr ? stream_.msg : "an error") +
                           "': it is damaged");
  }

 private:
  z_stream stream_{};
  bool ready_;
};

}  // namespace

Result<Bytes> gunzip(ByteSpan bytes) {
  Inflater inflater(15 + 16);
  if (!inflater.ready()) return Status::out_of_memory();
  Result<Bytes> content = Bytes::of(std::max<std::size_t>(4096, 2 * bytes.size()));
  if (!content.ok()) return content;
  std::size_t size = 0;
  while (true) {
    std::span<std::uint8_t> to((*content).data() + size, content->size() - size);
    const std::size_t room = to.size(), left = bytes.size();
    const int result = inflater.inflate(bytes, to);
    size += room - to.size();
    if (result == Z_STREAM_END) {
      if (bytes.empty()) break;
      if (!is_gzip(bytes))
        return Status::invalid("expected the end of the compressed file, got " +
                               std::to_string(bytes.size()) + " more bytes");
      inflater.reset();
      continue;
    }
    if (result != Z_OK && result != Z_BUF_ERROR) return inflater.refuse(result);
    if (to.empty()) {
      if (size > kMostFileBytes)
        return Status::invalid("expected at most " + std::to_string(kMostFileBytes) +
                               " bytes, uncompressed, got more");
      if (Status bad = (*content).resize(2 * size); !bad.ok()) return bad;
    } else if (bytes.empty() || bytes.size() == left) {
      return inflater.refuse(Z_BUF_ERROR);
    }
  }
  (*content).shrink(size);
  return content;
}

Result<Bytes> inflate_parts(std::span<const ByteSpan> parts, std::size_t size) {
  Inflater inflater(15);
  if (!inflater.ready()) return Status::out_of_memory();
  Result<Bytes> content = Bytes::of(size);
  if (!content.ok()) return content;
  std::span<std::uint8_t> to((*content).data(), size);
  std::uint8_t beyond = 0;  // a place for a byte too many
  std::span<std::uint8_t> one(&beyond, 1);
  int result = Z_OK;
  for (ByteSpan part : parts) {
    while (!part.empty()) {
      if (result == Z_STREAM_END)
        return Status::invalid("expected the end of the compressed bytes, got more");
      result = inflater.inflate(part, to.empty() ? one : to);
      if (one.empty())
        return Status::invalid("expected " + std::to_string(size) +
                               " bytes, uncompressed, got more");
      if (result != Z_OK && result != Z_STREAM_END) return inflater.refuse(result);
    }
  }
  // What is left of the stream may be its end alone.
  if (result != Z_STREAM_END) return inflater.refuse(Z_BUF_ERROR);
  if (!to.empty())
    return Status::invalid("expected " + std::to_string(size) + " bytes, uncompressed, got " +
                           std::to_string(size - to.size()));
  return content;
}

std::uint32_t crc_of(ByteSpan bytes) {
  return static_cast<std::uint32_t>(::crc32_z(0, bytes.data(), bytes.size()));
}

#else

namespace {

Status without() {
  return Status::invalid("built without zlib: expected an uncompressed file, got a compressed one");
}

}  // namespace

Result<Bytes> gunzip(ByteSpan) { return without(); }
Result<Bytes> inflate_parts(std::span<const ByteSpan>, std::size_t) { return without(); }
std::uint32_t crc_of(ByteSpan) { return 0; }

#endif

}  // namespace fastmnist::run
