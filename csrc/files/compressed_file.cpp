#include "files/compressed_file.h"

#include <algorithm>
#include <limits>
#include <new>
#include <optional>

namespace fastmnist {
namespace {

constexpr std::int64_t kMostSize = std::int64_t{1} << 40;

// Behind weight_int8, in the order of the letters.
struct Part {
  const char* key;
  Dtype dtype;
  char of;  // of its sizes: 'o'utputs, 'i'nputs, or none
};
constexpr Part kParts[] = {
    {"weight_scale", Dtype::kFloat32, 'o'},     {"bias", Dtype::kFloat32, 'o'},
    {"input_scale", Dtype::kFloat32, ' '},      {"input_zero_point", Dtype::kInt32, ' '},
    {"input_multiplier", Dtype::kFloat32, 'i'}, {"input_offset", Dtype::kFloat32, 'i'},
};

Status bad_row() {
  return Status::invalid("field 'tensors'", "a layer or a tensor, each once", "something else");
}

Status checked(const Shape& shape) {
  std::int64_t all = 1;
  bool fits = shape.size() <= kMostDimensions;
  for (const std::int64_t size : shape) {
    fits = fits && size >= 0 && size < kMostSize && (size == 0 || all < kMostSize / size);
    all *= fits ? size : 0;
  }
  return fits ? Status() : Status::invalid("shape", "integers from 0 on", text_of(shape));
}

std::optional<Dtype> dtype_named(std::string_view numpy) {
  for (std::size_t i = 0; i < std::size(kDtypes); ++i)
    if (numpy == kDtypes[i].numpy) return static_cast<Dtype>(i);
  return std::nullopt;
}

}  // namespace

Result<CompressedFile> CompressedFile::open(std::span<const std::byte> bytes) {
  CompressedFile file;
  Result<std::unique_ptr<CodedReader>> stream =
      CodedReader::open({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  if (!stream.ok()) return std::move(stream).status();
  file.stream_ = *std::move(stream);
  file.text_size_ = file.stream_->number();
  if (Status bad = file.stream_->check_room_for_bytes(file.text_size_); !bad.ok()) return bad;
  file.text_.reset(new (std::nothrow) char[file.text_size_ + 1]);
  if (file.text_ == nullptr) return Status::out_of_memory();
  file.text_[file.text_size_] = '\0';
  const std::span text(reinterpret_cast<std::uint8_t*>(file.text_.get()), file.text_size_);
  if (Status bad = file.stream_->bytes(text, 1); !bad.ok()) return bad;
  return file;
}

Status CompressedFile::read(JsonValue description, std::vector<NamedArray>& arrays) {
  const std::optional<JsonValue> rows = description.find("tensors");
  if (!rows || !rows->is_array())
    return Status::invalid("field 'tensors'", "list", rows ? name_of(rows->kind()) : "none");
  for (const JsonValue row : *rows) {
    std::vector<JsonValue> parts;
    for (const JsonValue part : row) {
      if (parts.size() == 4) return bad_row();
      parts.push_back(part);
    }
    if (!row.is_array() || parts.size() != 4 || !parts[0].is_string()) return bad_row();
    const std::string key(parts[0].text());
    if (parts[1].integer() && parts[2].integer() && parts[3].is_string()) {
      if (Status bad =
              layer(key, *parts[1].integer(), *parts[2].integer(), parts[3].text(), arrays);
          !bad.ok())
        return bad;
      continue;
    }
    const std::optional<Dtype> dtype = dtype_named(parts[1].text());
    const std::string_view form = parts[2].text();
    if (!dtype || form.size() != 1 || std::string_view("rhw").find(form) == form.npos ||
        !parts[3].is_array())
      return bad_row();
    Shape shape;
    for (const JsonValue size : parts[3]) {
      if (shape.size() > kMostDimensions) break;
      shape.push_back(size.integer().value_or(-1));
    }
    Result<Array> array = one(*dtype, form[0], shape);
    if (!array.ok()) return std::move(array).status();
    arrays.push_back({key, *std::move(array)});
  }
  return {};
}

Status CompressedFile::layer(const std::string& prefix, std::int64_t outputs, std::int64_t inputs,
                             std::string_view forms, std::vector<NamedArray>& arrays) {
  if (forms.size() != std::size(kParts) || forms.find_first_not_of("-rheqn") != forms.npos)
    return bad_row();
  Result<Array> weight = one(Dtype::kInt8, 'w', {outputs, inputs});
  if (!weight.ok()) return std::move(weight).status();
  arrays.push_back({prefix + "weight_int8", *std::move(weight)});
  // As many elements as the weights have outputs or inputs: these were there.
  for (std::size_t i = 0; i < std::size(kParts); ++i) {
    if (forms[i] == '-') continue;
    Shape shape;
    if (kParts[i].of != ' ') shape = {kParts[i].of == 'o' ? outputs : inputs};
    Result<Array> part = one(kParts[i].dtype, forms[i], shape);
    if (!part.ok()) return std::move(part).status();
    arrays.push_back({prefix + kParts[i].key, *std::move(part)});
  }
  return {};
}

Result<Array> CompressedFile::one(Dtype dtype, char form, const Shape& shape) {
  if (Status bad = checked(shape); !bad.ok()) return bad;
  const auto refused = [&](const char* expected) {
    return Status::invalid("form '" + std::string(1, form) + "'", expected,
                           std::string(about(dtype).full) + " " + text_of(shape));
  };
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  if (form == 'w') {
    if (shape.size() != 2 || dtype != Dtype::kInt8) return refused("int8 of two dimensions");
    if (Status bad = stream_->check_room_for_weights(shape[0], shape[1]); !bad.ok()) return bad;
    Result<Array> made = Array::make(dtype, shape);
    if (!made.ok()) return made;
    if (Status bad = stream_->weights(made->to_write<std::int8_t>(), shape[0], shape[1]); !bad.ok())
      return bad;
    return made;
  }
  if (form == 'n') {
    const std::uint32_t number =
        dtype == Dtype::kInt32 && shape.empty() ? stream_->number() : 0xffffffff;
    if (number > 0x7fffffff) return refused("an int32 from 0 on");
    Result<Array> made = Array::make(dtype, shape);
    if (made.ok()) *made->to_write<std::int32_t>() = static_cast<std::int32_t>(number);
    return made;
  }
  const bool halves = form == 'h' || form == 'q';
  if (halves && dtype != Dtype::kFloat32) return refused("float32");
  const bool is_one = form == 'e' || form == 'q';
  if (is_one && dtype != Dtype::kFloat32 && dtype != Dtype::kInt32) return refused("numbers");
  const std::int64_t stored = is_one ? 1 : count;
  if (Status bad = stream_->check_room_for_bytes(static_cast<std::uint64_t>(stored) *
                                                 (halves ? 2 : about(dtype).bytes));
      !bad.ok())
    return bad;
  Result<Array> made = Array::make(dtype, is_one ? Shape() : shape);
  if (!made.ok()) return made;
  if (Status bad = records(*made, form); !bad.ok()) return bad;
  if (!is_one) return made;
  Result<Array> all = Array::make(dtype, shape);
  if (all.ok()) std::fill_n(all->to_write<std::uint32_t>(), count, *made->as<std::uint32_t>());
  return all;
}

// Elements whose bytes come the highest first, or the upper two of four alone.
Status CompressedFile::records(Array& array, char form) {
  const std::size_t size = about(array.dtype()).bytes;
  const bool halves = form == 'h' || form == 'q';
  const std::span<std::byte> bytes = array.bytes_to_write();
  auto* to = reinterpret_cast<std::uint8_t*>(bytes.data());
  const std::size_t coded = halves ? bytes.size() / 2 : bytes.size();
  // The coded bytes lie at the end, so that widening them from the front overwrites none unread.
  std::uint8_t* from = to + (bytes.size() - coded);
  if (Status bad = stream_->bytes({from, coded}, static_cast<int>(halves ? 2 : size)); !bad.ok())
    return bad;
  for (std::size_t i = 0; i < bytes.size() / size; ++i) {
    std::uint8_t element[8] = {};
    const std::size_t width = halves ? 2 : size;
    for (std::size_t b = 0; b < width; ++b) element[size - 1 - b] = from[i * width + b];
    std::copy_n(element, size, to + i * size);
  }
  if (array.dtype() == Dtype::kComplex64) {  // its two parts in their own order, each turned
    for (std::size_t i = 0; i < bytes.size(); i += 8) std::rotate(to + i, to + i + 4, to + i + 8);
  }
  if (array.dtype() == Dtype::kBool &&
      std::any_of(to, to + bytes.size(), [](int b) { return b > 1; }))
    return Status::invalid("a tensor of truth values", "0 and 1", "others");
  return {};
}

}  // namespace fastmnist
