#include "files/container.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <utility>
#include <vector>

namespace fastmnist {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::string_view kMetadata = "__metadata__";

Status not_one(const std::string& why) {
  return Status::invalid("expected a safetensors file, got another, or one cut short: " + why);
}

std::optional<Dtype> dtype_named(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kDtypes); ++i)
    if (name == kDtypes[i].safetensors) return static_cast<Dtype>(i);
  return std::nullopt;
}

// From 0 on.
std::optional<std::uint64_t> whole(JsonValue value) {
  const std::optional<std::int64_t> number = value.integer();
  if (!number || *number < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*number);
}

// Bytes of so many numbers; nothing where that is more than 2^62.
std::optional<std::uint64_t> bytes_of(const Shape& shape, Dtype dtype) {
  std::uint64_t all = about(dtype).bytes;
  bool empty = false;
  for (const std::int64_t size : shape) {
    empty = empty || size == 0;
    const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
    if (all > (std::uint64_t{1} << 62) / factor) return std::nullopt;
    all *= factor;
  }
  return empty ? 0 : all;
}

}  // namespace

Status Source::read(std::uint64_t offset, std::span<std::byte> to) const {
  if (!in_memory_) return file_.read(offset, to);
  const std::span<const std::byte> from = look(offset, to.size());
  std::copy(from.begin(), from.end(), to.begin());
  return {};
}

Result<Container> Container::open(Source source) {
  Container container;
  container.source_ = std::move(source);
  if (Status bad = container.read_header(); !bad.ok()) return bad;
  return container;
}

Status Container::read_header() {
  std::byte length[kLengthBytes];
  const std::uint64_t all = source_.size();
  if (all < kLengthBytes) return not_one(std::to_string(all) + " bytes");
  if (Status bad = source_.read(0, length); !bad.ok()) return bad;
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i)
    count |= std::to_integer<std::uint64_t>(length[i]) << (8 * i);
  if (count > kMostHeader)
    return not_one("a header of " + std::to_string(count) + " bytes, at most " +
                   std::to_string(kMostHeader) + " are taken");
  if (count > all - kLengthBytes)
    return not_one("a header of " + std::to_string(count) + " bytes where " +
                   std::to_string(all - kLengthBytes) + " are left");
  const auto size = static_cast<std::size_t>(count);
  text_.reset(new (std::nothrow) char[size + 1]);
  if (text_ == nullptr) return Status::out_of_memory();
  if (Status bad = source_.read(kLengthBytes, std::as_writable_bytes(std::span(text_.get(), size)));
      !bad.ok())
    return bad;
  Result<Json> parsed = Json::parse({text_.get(), size});
  if (!parsed.ok() && parsed.status().is_out_of_memory()) return std::move(parsed).status();
  if (!parsed.ok()) return not_one("header: " + parsed.status().text());
  header_ = *std::move(parsed);
  if (size == 0 || text_[0] != '{') return not_one("a header that begins with no {");
  const std::uint64_t data = kLengthBytes + count;
  for (const JsonValue member : header_.root()) {
    if (member.key() == kMetadata) {
      if (!member.is_object()) return not_one("metadata that are no object");
      for (const JsonValue text : member)
        if (!text.is_string()) return not_one("metadata other than texts");
    } else if (Status bad = add(member, data); !bad.ok()) {
      return bad;
    }
  }
  return check_layout(data);
}

Status Container::add(JsonValue tensor, std::uint64_t data) {
  const std::string named = "tensor '" + std::string(tensor.key()) + "': ";
  const std::optional<JsonValue> dtype = tensor.find("dtype");
  const std::optional<JsonValue> shape = tensor.find("shape");
  const std::optional<JsonValue> offsets = tensor.find("data_offsets");
  if (!dtype || !shape || !offsets || tensor.size() != 3 || !dtype->is_string() ||
      !shape->is_array() || !offsets->is_array() || offsets->size() != 2)
    return not_one(named + "expected dtype, shape and data_offsets");
  const std::optional<Dtype> known = dtype_named(dtype->text());
  if (!known)
    return not_one(named + "expected a dtype that NumPy has, got '" + std::string(dtype->text()) +
                   "'");
  Place place{*known, {}, 0, 0};
  for (const JsonValue size : *shape) {
    const std::optional<std::uint64_t> number = whole(size);
    if (!number || place.shape.size() == kMostDimensions)
      return not_one(named + "expected at most 16 sizes from 0 on as shape");
    place.shape.push_back(static_cast<std::int64_t>(*number));
  }
  const auto bounds = offsets->begin();
  const std::optional<std::uint64_t> begin = whole(*bounds);
  const std::optional<std::uint64_t> end = whole(*++JsonValue::Iterator(bounds));
  const std::optional<std::uint64_t> bytes = bytes_of(place.shape, place.dtype);
  if (!begin || !end || *begin > *end || !bytes || *bytes != *end - *begin)
    return not_one(named + "expected data_offsets that its shape fills");
  if (*end > source_.size() - data) return not_one(named + "it ends behind the file's end");
  place.offset = data + *begin;
  place.bytes = *bytes;
  places_.emplace(tensor.key(), std::move(place));
  return {};
}

Status Container::check_layout(std::uint64_t data) const {
  std::vector<const Place*> order;
  order.reserve(places_.size());
  for (const auto& [name, place] : places_) order.push_back(&place);
  std::sort(order.begin(), order.end(), [](const Place* a, const Place* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  std::uint64_t at = data;
  for (const Place* place : order) {
    if (place->offset != at)
      return not_one(place->offset < at ? "tensors that overlap" : "a hole between tensors");
    at += place->bytes;
  }
  if (at != source_.size())
    return not_one(std::to_string(source_.size() - at) + " bytes behind the last tensor");
  return {};
}

std::optional<std::string_view> Container::metadata(std::string_view key) const {
  const std::optional<JsonValue> all = header_.root().find(kMetadata);
  const std::optional<JsonValue> found = all ? all->find(key) : std::nullopt;
  return found ? std::optional(found->text()) : std::nullopt;
}

Result<Array> Container::read(const Place& place) const {
  if (source_.in_memory()) {
    const std::span<const std::byte> bytes = source_.look(place.offset, place.bytes);
    const std::size_t alignment = std::min<std::size_t>(about(place.dtype).bytes, 8);
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment == 0)
      return Array::view(place.dtype, place.shape, bytes);
  }
  Result<Array> made = Array::make(place.dtype, place.shape);
  if (!made.ok()) return made;
  if (Status bad = source_.read(place.offset, made->bytes_to_write()); !bad.ok()) return bad;
  return made;
}

}  // namespace fastmnist
