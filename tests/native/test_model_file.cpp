// Model files from memory, as where there is no file system: read, packed, run; and JSON.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "fastmnist/fastmnist.h"
#include "files/crc32.h"
#include "files/json.h"

namespace {

using fastmnist::Json;
using fastmnist::JsonKind;
using fastmnist::JsonValue;

// A file of one layer, y = relu(2x - 1) of two features, static with scale 1.
std::string layer_file(bool spoiled = false) {
  struct Tensor {
    const char* name;
    const char* about;
    std::string bytes;
  };
  const auto bytes_of = [](auto... values) {
    std::string bytes;
    const auto add = [&](auto value) {
      char raw[sizeof value];
      std::memcpy(raw, &value, sizeof value);
      bytes.append(raw, sizeof value);
    };
    (add(values), ...);
    return bytes;
  };
  const Tensor tensors[] = {
      {"bias", R"("dtype":"F32","shape":[2])", bytes_of(-1.0f, -1.0f)},
      {"input_scale", R"("dtype":"F32","shape":[])", bytes_of(1.0f)},
      {"input_zero_point", R"("dtype":"I32","shape":[])", bytes_of(std::int32_t{0})},
      {"weight_scale", R"("dtype":"F32","shape":[2])", bytes_of(1.0f, 1.0f)},
      {"weight_int8", R"("dtype":"I8","shape":[2,2])",
       bytes_of(std::int8_t{2}, std::int8_t{0}, std::int8_t{0}, std::int8_t{2})},
  };
  std::string header;
  std::string sums;
  std::string data;
  for (const Tensor& tensor : tensors) {
    const std::string name = std::string("m/network.layers.0.") + tensor.name;
    header += ",\"" + name + "\":{" + tensor.about + ",\"data_offsets\":[" +
              std::to_string(data.size()) + "," +
              std::to_string(data.size() + tensor.bytes.size()) + "]}";
    const std::uint32_t sum =
        fastmnist::crc32_of(std::as_bytes(std::span(tensor.bytes.data(), tensor.bytes.size())));
    sums += (sums.empty() ? "" : ",") + ("\\\"" + name + "\\\":") + std::to_string(sum);
    data += tensor.bytes;
  }
  if (spoiled) data.back() ^= 1;
  const std::string told =
      R"({\"format\":2,\"models\":{\"m\":{\"type\":\"compiled\",\"network\":{\"kind\":\"static\",)"
      R"(\"pixels\":{\"mean\":[0],\"std\":[0.00392156862745098]},)"
      R"(\"layers\":[{\"name\":\"0\",\"clamp\":[0,\"inf\"]}]}}},\"checksums\":{)" +
      sums + "}}";
  header = R"({"__metadata__":{"fastmnist":")" + told + "\"}" + header + "}";
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
  return length + header + data;
}

fastmnist_status load(const std::string& bytes, fastmnist_model** model) {
  const fastmnist_options options = {sizeof options, FASTMNIST_PLAN_FIXED, ""};
  return fastmnist_load_memory(bytes.data(), bytes.size(), nullptr, &options, model);
}

JsonValue parsed(Json& json, const char* text) {
  fastmnist::Result<Json> made = Json::parse(text);
  if (made.ok()) json = *std::move(made);
  return made.ok() ? json.root() : JsonValue();
}

}  // namespace

TEST(a_file_from_memory_is_read_and_run) {
  const std::string bytes = layer_file();
  fastmnist_model* model = nullptr;
  CHECK(load(bytes, &model) == FASTMNIST_OK);
  CHECK(model != nullptr);
  if (model == nullptr) return;
  const float rows[] = {3, 0, 100, 1};
  float outputs[4] = {};
  CHECK(fastmnist_predict_f32(model, rows, 2, outputs) == FASTMNIST_OK);
  CHECK(outputs[0] == 5 && outputs[1] == 0 && outputs[2] == 199 && outputs[3] == 1);
  const std::uint8_t pixels[] = {7, 9};
  std::int64_t index = -1;
  CHECK(fastmnist_classify_u8(model, pixels, 1, &index) == FASTMNIST_OK);
  CHECK(index == 1);
  fastmnist_free(model);
}

TEST(files_cut_anywhere_and_changed_bytes_are_refused) {
  const std::string bytes = layer_file();
  fastmnist_model* model = nullptr;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK(load(bytes.substr(0, size), &model) == FASTMNIST_INVALID);
    CHECK(model == nullptr);
  }
  CHECK(load(layer_file(/*spoiled=*/true), &model) == FASTMNIST_INVALID);
  CHECK(std::string(fastmnist_last_error()).find("checksum") != std::string::npos);
}

TEST(memory_that_is_not_aligned_will_do) {
  const std::string bytes = layer_file();
  for (std::size_t shift = 1; shift < 8; ++shift) {
    const std::string shifted = std::string(shift, 'x') + bytes;
    fastmnist_model* model = nullptr;
    CHECK(fastmnist_load_memory(shifted.data() + shift, bytes.size(), "m", nullptr, &model) ==
          FASTMNIST_OK);
    fastmnist_free(model);
  }
}

TEST(json_values) {
  Json json;
  const JsonValue root = parsed(
      json, R"( {"a": [1, -2.5e3, true, null, {}], "b\n\u00e9\ud83d\ude00": "x\\\"/", "c": NaN} )");
  CHECK(root.is_object() && root.size() == 3);
  const JsonValue list = *root.find("a");
  CHECK(list.size() == 5);
  auto at = list.begin();
  CHECK((*at).integer() == 1);
  CHECK((*++at).number() == -2500 && !(*at).integer());
  CHECK((*++at).is_true());
  CHECK((*++at).is_null());
  CHECK((*++at).is_object() && (*at).size() == 0);
  CHECK(root.find("b\n\xc3\xa9\xf0\x9f\x98\x80")->text() == "x\\\"/");
  CHECK(std::isnan(root.find("c")->number()));
  CHECK(!root.find("d"));
  CHECK(parsed(json, "1e400").number() == std::numeric_limits<double>::infinity());
  CHECK(parsed(json, "-1e400").number() == -std::numeric_limits<double>::infinity());
  CHECK(parsed(json, "1e-400").number() == 0);
  CHECK(parsed(json, "9007199254740992").integer() == 9007199254740992);
  CHECK(!parsed(json, "90071992547409920").integer());
}

TEST(what_is_no_json) {
  const std::string deep(fastmnist::kMostJsonDepth + 1, '[');
  for (const std::string& text : {std::string(""),
                                  std::string("{"),
                                  std::string("[1,]"),
                                  std::string("[1 2]"),
                                  std::string("{\"a\":1,\"a\":2}"),
                                  std::string("{a:1}"),
                                  std::string("\"\\x\""),
                                  std::string("\"\\ud800\""),
                                  std::string("\"\\udc00\""),
                                  std::string("\"\\ud800\\u0041\""),
                                  std::string("\"\xff\""),
                                  std::string("\"\xc0\x80\""),
                                  std::string("\"\xed\xa0\x80\""),
                                  std::string("\"a\nb\""),
                                  std::string("01"),
                                  std::string("1."),
                                  std::string("-"),
                                  std::string("+1"),
                                  std::string("1e"),
                                  std::string("tru"),
                                  std::string("1 2"),
                                  std::string("\"\\u12\""),
                                  std::string("\"a"),
                                  std::string("nul\0", 4),
                                  std::string("\"\0\"", 3),
                                  deep})
    CHECK(!Json::parse(text).ok());
  CHECK(Json::parse(std::string(fastmnist::kMostJsonDepth, '[') +
                    std::string(fastmnist::kMostJsonDepth, ']'))
            .ok());
}
