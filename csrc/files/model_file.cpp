#include "files/model_file.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "files/compressed_file.h"
#include "files/crc32.h"
#include "files/short_forms.h"

namespace fastmnist {
namespace {

constexpr std::string_view kKey = "fastmnist";

Status field_of(JsonValue record, std::string_view name, JsonKind kind, JsonValue& value) {
  const std::optional<JsonValue> found = record.find(name);
  const char* expected = kind == JsonKind::kNumber ? "int" : name_of(kind);
  if (!found)
    return Status::invalid("field '" + std::string(name) + "': expected " + expected +
                           ", but it is missing");
  if (found->kind() != kind)
    return Status::invalid("field '" + std::string(name) + "'", expected, name_of(found->kind()));
  value = *found;
  return {};
}

Status of_tensor(std::string_view key, const Status& status) {
  if (status.is_out_of_memory()) return Status::out_of_memory();
  return Status::invalid("tensor '" + std::string(key) + "': " + status.text());
}

}  // namespace

Result<std::unique_ptr<ModelFile>> ModelFile::open(const std::string& path) {
  Result<InputFile> file = InputFile::open(path);
  if (!file.ok()) return std::move(file).status();
  return open(Source(*std::move(file)));
}

Result<std::unique_ptr<ModelFile>> ModelFile::open(std::span<const std::byte> bytes) {
  return open(Source(bytes));
}

Result<std::unique_ptr<ModelFile>> ModelFile::open(Source source) {
  auto file = std::make_unique<ModelFile>();
  if (Status bad = file->read_all(std::move(source)); !bad.ok()) return bad;
  return file;
}

Status ModelFile::read_all(Source source) {
  Result<Container> opened = Container::open(std::move(source));
  if (!opened.ok()) return std::move(opened).status();
  container_ = *std::move(opened);
  const Container::Places& places = container_.tensors();
  if (const std::optional<std::string_view> text = container_.metadata(kKey))
    return read_plain(*text);
  if (places.size() == 1 && places.begin()->first == kKey)
    return read_compressed(places.begin()->second);
  return Status::invalid("expected a file that fm.save wrote, got another safetensors file");
}

Status ModelFile::read_plain(std::string_view metadata) {
  plain_text_ = metadata;
  content_text_ = plain_text_;
  if (Status bad = read_content(); !bad.ok()) return bad;
  if (Status bad = read_checksums(); !bad.ok()) return bad;
  for (Model& model : models_)
    if (Status bad = find_tensors(model); !bad.ok())
      return Status::invalid("model '" + model.terminated + "': " + bad.text());
  return {};
}

Status ModelFile::read_compressed(const Container::Place& place) {
  if (place.dtype != Dtype::kUint8 || place.shape.size() != 1)
    return Status::invalid("tensor 'fastmnist'", "uint8 ['any']",
                           std::string(about(place.dtype).full) + " " + text_of(place.shape));
  Result<Array> tensor = container_.read(place);
  if (!tensor.ok()) return std::move(tensor).status();
  Result<CompressedFile> opened = CompressedFile::open(tensor->bytes());
  if (!opened.ok()) return std::move(opened).status();
  auto [text, size] = opened->take_text();
  own_text_ = std::move(text);
  content_text_ = {own_text_.get(), size};
  if (Status bad = read_content(); !bad.ok()) return bad;
  for (Model& model : models_) {
    std::vector<NamedArray> arrays;
    if (Status bad = opened->read(model.description, arrays); !bad.ok()) return bad;
    model.keys.reserve(arrays.size());
    for (NamedArray& named : arrays) {
      model.keys.push_back(std::move(named.key));
      Stored stored;
      stored.read = std::move(named.array);
      if (!model.arrays.emplace(model.keys.back(), std::move(stored)).second)
        return Status::invalid("tensor '" + model.keys.back() + "'", "one", "several");
      model.order.push_back(model.keys.back());
    }
  }
  return opened->finish();
}

// What any file tells: of which format it is, and its models.
Status ModelFile::read_content() {
  Result<Json> parsed = Json::parse(content_text_);
  if (!parsed.ok()) return std::move(parsed).status();
  content_ = *std::move(parsed);
  JsonValue format;
  if (Status bad = field_of(root(), "format", JsonKind::kNumber, format); !bad.ok()) return bad;
  format_ = format.integer().value_or(-1);
  // A later format may be one that this reader understands, too.
  const std::optional<JsonValue> reader = root().find("reader");
  const std::int64_t least = reader ? reader->integer().value_or(-1) : format_;
  if (format_ < 1 || least < 1 || least > kFormat)
    return Status::invalid(
        "format", "1 or " + std::to_string(kFormat),
        std::to_string(least < 1 ? format_ : least) + ": a later fastmnist may read it");
  if (const std::optional<JsonValue> features = root().find("features"))
    for (const JsonValue feature : *features)
      if (std::find(std::begin(kFeatures), std::end(kFeatures), feature.text()) ==
          std::end(kFeatures))
        return Status::invalid("features", "those that this version knows",
                               "'" + std::string(feature.text()) + "': a later one may read it");
  JsonValue models;
  if (Status bad = field_of(root(), "models", JsonKind::kObject, models); !bad.ok()) return bad;
  for (const JsonValue description : models) {
    if (!description.is_object())
      return Status::invalid("model '" + std::string(description.key()) + "'", "a description",
                             name_of(description.kind()));
    const auto is_control = [](char c) {
      return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    };
    if (std::any_of(description.key().begin(), description.key().end(), is_control))
      return Status::invalid("field 'models'", "names of letters", "one with control characters");
    by_name_.emplace(description.key(), models_.size());
    Model model;
    model.name = description.key();
    model.terminated = description.key();
    model.description = description;
    if (const std::optional<JsonValue> same = description.find("same"))
      for (const JsonValue own : *same) model.same.emplace(own.key(), own.text());
    models_.push_back(std::move(model));
  }
  if (models_.empty()) return Status::invalid("field 'models': expected at least one");
  return {};
}

Status ModelFile::read_checksums() {
  const std::optional<JsonValue> told = root().find("checksums");
  if (!told) return {};
  for (const JsonValue sum : *told) {
    const std::optional<std::int64_t> number = sum.integer();
    if (!number || *number < 0 || *number > 0xffffffff)
      return Status::invalid("checksums", "numbers from 0 to 4294967295",
                             "another of '" + std::string(sum.key()) + "'");
    checksums_.emplace(sum.key(), static_cast<std::uint32_t>(*number));
  }
  for (const auto& [name, place] : container_.tensors())
    if (checksums_.count(name) == 0)
      return Status::invalid("checksums", "one for each tensor",
                             "none for '" + std::string(name) + "'");
  return {};
}

Status ModelFile::find_tensors(Model& model) {
  const std::string prefix = model.terminated + "/";
  const Container::Places& places = container_.tensors();
  for (auto at = places.lower_bound(prefix); at != places.end(); ++at) {
    if (at->first.substr(0, prefix.size()) != prefix) break;
    Stored stored;
    stored.place = &at->second;
    stored.names[0] = at->first;
    model.arrays.emplace(at->first.substr(prefix.size()), std::move(stored));
  }
  if (Status bad = find_short(model, "sparse", Form::kSparse, ".bitmask", ".values"); !bad.ok())
    return bad;
  if (Status bad = find_short(model, "indexed", Form::kIndexed, ".table", ".indices"); !bad.ok())
    return bad;
  for (const auto& [key, stored] : model.arrays) model.order.push_back(key);
  return {};
}

// Two tensors become one array in their place.
Status ModelFile::find_short(Model& model, std::string_view field, Form form,
                             std::string_view first, std::string_view second) {
  const std::optional<JsonValue> shapes = model.description.find(field);
  if (!shapes) return {};
  if (!shapes->is_object())
    return Status::invalid("field '" + std::string(field) + "'", "a table of shapes",
                           name_of(shapes->kind()));
  for (const JsonValue sizes : *shapes) {
    const std::string key(sizes.key());
    Stored stored;
    stored.form = form;
    std::string_view suffixes[] = {first, second};
    bool whole = sizes.is_array() && model.arrays.count(key) == 0;
    for (int i = 0; i < 2; ++i) {
      const auto part = model.arrays.find(key + std::string(suffixes[i]));
      whole = whole && part != model.arrays.end() && part->second.place != nullptr &&
              part->second.form == Form::kDense;
      if (!whole) break;
      stored.parts[i] = part->second.place;
      stored.names[i] = part->second.names[0];
      model.arrays.erase(part);
    }
    if (!whole)
      return Status::invalid("tensor '" + key + "': expected a shape, " +
                             std::string(first.substr(1)) + " and " +
                             std::string(second.substr(1)) + ", nothing else");
    for (const JsonValue size : sizes) {
      stored.shape.push_back(size.integer().value_or(-1));
      if (stored.shape.size() > kMostDimensions) break;
    }
    model.arrays.emplace(sizes.key(), std::move(stored));
  }
  return {};
}

Result<std::size_t> ModelFile::find(std::string_view name) const {
  if (const auto found = by_name_.find(name); found != by_name_.end() && !name.empty())
    return found->second;
  if (name.empty() && models() == 1) return std::size_t{0};
  constexpr std::size_t kMostTold = 20;
  std::string known;
  for (std::size_t i = 0; i < std::min(models(), kMostTold); ++i)
    known += (i == 0 ? "" : ", ") + models_[i].terminated;
  if (models() > kMostTold) known += " and " + std::to_string(models() - kMostTold) + " more";
  if (name.empty()) return Status::invalid("name", "one of " + known, "none");
  return Status::not_found("name: expected one of " + known + ", got '" + std::string(name) + "'");
}

std::vector<std::string_view> ModelFile::keys(std::size_t model) const {
  return models_[model].order;
}

const ModelFile::Stored* ModelFile::stored(std::size_t model, std::string_view key) const {
  const Model& in = models_[model];
  if (const auto found = in.arrays.find(key); found != in.arrays.end()) return &found->second;
  const auto other = in.same.find(key);
  const auto found = other != in.same.end() ? in.arrays.find(other->second) : in.arrays.end();
  return found != in.arrays.end() ? &found->second : nullptr;
}

bool ModelFile::has(std::size_t model, std::string_view key) const {
  return stored(model, key) != nullptr;
}

Result<Array> ModelFile::verified(std::string_view name, const Container::Place& place) const {
  Result<Array> array = container_.read(place);
  if (!array.ok()) return array;
  if (const auto expected = checksums_.find(name); expected != checksums_.end()) {
    const std::uint32_t got = crc32_of(array->bytes());
    if (got != expected->second)
      return Status::invalid("tensor '" + std::string(name) + "'",
                             "a checksum of " + std::to_string(expected->second),
                             std::to_string(got) + ": the file was changed");
  }
  const auto is_truth = [](std::byte b) { return b <= std::byte{1}; };
  if (array->dtype() == Dtype::kBool &&
      !std::all_of(array->bytes().begin(), array->bytes().end(), is_truth))
    return Status::invalid("tensor '" + std::string(name) + "'", "0 and 1", "other truth values");
  return array;
}

Result<Array> ModelFile::array(std::size_t model, std::string_view key) const {
  const Stored* found = this->stored(model, key);
  if (found == nullptr)
    return Status::invalid("tensor '" + std::string(key) + "': expected one, but it is missing");
  const Stored& stored = *found;
  if (stored.form == Form::kDense) {
    if (stored.place == nullptr) return stored.read.look();
    return verified(stored.names[0], *stored.place);
  }
  Array parts[2];
  for (int i = 0; i < 2; ++i) {
    Result<Array> part = verified(stored.names[i], *stored.parts[i]);
    if (!part.ok()) return part;
    parts[i] = *std::move(part);
  }
  Result<Array> decoded = stored.form == Form::kSparse
                              ? decode_sparse(parts[0], parts[1], stored.shape)
                              : decode_indexed(parts[0], parts[1], stored.shape);
  if (!decoded.ok()) return of_tensor(key, decoded.status());
  return decoded;
}

}  // namespace fastmnist
