// UTF-8, read without trust and written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fastmnist {

// The length of the UTF-8 sequence that begins here; 0 where there is none, or one that is longer
// than it need be, half of a surrogate pair, or beyond Unicode (The Unicode Standard, table 3-7).
inline std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto follows = [&](std::size_t i, unsigned least = 0x80, unsigned most = 0xbf) {
    return byte(i) >= least && byte(i) <= most;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return follows(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef)
    return follows(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  if (lead >= 0xf0 && lead <= 0xf4)
    return follows(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) && follows(2) &&
                   follows(3)
               ? 4
               : 0;
  return 0;
}

// Writes a code point, no half of a surrogate pair, and says how many bytes it took: 1 to 4.
inline std::size_t encode_utf8(std::uint32_t code, char* to) {
  const int tails = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr unsigned kLeads[] = {0, 0xc0, 0xe0, 0xf0};
  *to = static_cast<char>(kLeads[tails] | (code >> (6 * tails)));
  for (int i = 1; i <= tails; ++i)
    to[i] = static_cast<char>(0x80 | ((code >> (6 * (tails - i))) & 0x3f));
  return static_cast<std::size_t>(tails) + 1;
}

}  // namespace fastmnist
