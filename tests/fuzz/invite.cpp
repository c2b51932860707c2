// Invites: whatever a file holds, reading it ends with an invite that can be written and read again, or with a sentence
// that gives nothing of the file away. In the input, a byte 1 stands for the fingerprint of a certificate, a byte 2 for
// the certificate, and a byte 3 for a token: what inputs would hardly come upon.
#include <kj/debug.h>

#include <capstan/base/base64url.h>
#include <capstan/base/digest.h>
#include <capstan/base/text.h>
#include <capstan/rpc/certificate.h>
#include <capstan/rpc/invite.h>

#include "fuzz.h"

namespace capstan::fuzz {
namespace {

constexpr size_t TELLING = 20;  // so many characters of a secret are too many

struct Samples {
  std::string fingerprint, certificate, token;
  Samples() {
    auto identity = rpc::TlsIdentity::make();
    KJ_REQUIRE(identity.ok(), identity.error().message.c_str());
    fingerprint = identity->fingerprint;
    certificate = identity->certificate;
    token = toBase64Url(std::string(TOKEN_BYTES, 't'));
  }
};

std::string expanded(std::string_view text) {
  static const Samples samples;
  std::string all;
  for (char c : text) {
    if (c >= 1 && c <= 3) {
      all += c == 1 ? samples.fingerprint : c == 2 ? samples.certificate : samples.token;
    } else {
      all += c;
    }
  }
  return all;
}

// No line that tells of a failure may tell of a secret, wherever in the file it is.
void checkGivesNothingAway(const std::string& sentence, const std::string& text) {
  for (size_t at = 0; at + TELLING <= sentence.size(); ++at) {
    std::string_view part = std::string_view(sentence).substr(at, TELLING);
    bool isCode = part.find(' ') == part.npos;
    if (isCode && text.find(part) != std::string::npos) fail("an error tells nothing of an invite", __FILE__, __LINE__);
  }
}

void checkInvite(const std::string& text) {
  auto invite = rpc::parseInvite(text, "a\nfile");
  if (!invite.ok()) {
    FUZZ_CHECK(invite.error().code == ErrorCode::INVALID_ARGUMENT);
    FUZZ_CHECK(escapeForTerminal(invite.error().path) == invite.error().path);
    for (unsigned char c : invite.error().message) FUZZ_CHECK(c >= 0x20 && c != 0x7f);
    return checkGivesNothingAway(invite.error().message, text);
  }
  FUZZ_CHECK(!invite->addresses.empty() && invite->addresses.size() <= rpc::MAX_INVITE_ADDRESSES);
  FUZZ_CHECK(invite->token.empty() || invite->token.size() == TOKEN_BYTES);
  auto written = rpc::format(*invite);
  FUZZ_CHECK(written.ok());
  auto again = rpc::parseInvite(*written, "again");
  FUZZ_CHECK(again.ok() && again->addresses == invite->addresses && again->token == invite->token);
  FUZZ_CHECK(again->certificate == invite->certificate);
}

void checkCode(std::string_view text) {
  if (auto bytes = fromBase64Url(text)) FUZZ_CHECK(toBase64Url(*bytes) == text);
  FUZZ_CHECK(fromBase64Url(toBase64Url(text)) == text);
}

void checkCertificate(const std::string& text) {
  auto facts = rpc::factsOf(text, "the certificate");
  if (!facts.ok()) {
    FUZZ_CHECK(facts.error().code == ErrorCode::INVALID_ARGUMENT);
    return;
  }
  FUZZ_CHECK(fromBase64Url(facts->fingerprint).has_value());
  for (auto& each : rpc::certificatesIn(text)) FUZZ_CHECK(!each.empty());
}

}  // namespace
}  // namespace capstan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan::fuzz;
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string text = expanded(input);
  switch (data[0] % 8) {
    case 0: checkCode(input); break;
    case 1: checkCertificate(text); break;
    default: checkInvite(text); break;
  }
  return 0;
}
