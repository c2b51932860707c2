// Invites: small text files that hold all that a client needs to reach a server and to be let in. Whoever has one has
// what it gives, so they are kept and sent like passwords. Pure functions.
//
//   # comment lines, for people only: nothing in them is believed
//   capnp://sha-256:FINGERPRINT@HOST:PORT/TOKEN         one line for each address, the best first
//   capnp://insecure@unix:%2Frun%2Fcapstan.sock/TOKEN   where there is no TLS
//   -----BEGIN CERTIFICATE-----                         with a fingerprint: the certificate that it is of
//   ...
//
// FINGERPRINT is SHA-256 of the certificate's SubjectPublicKeyInfo in DER, TOKEN the secret's 32 bytes, both in
// base64url without padding. Paths of sockets are percent-encoded. Without a token, the address ends the line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/rpc/address.h>
#include <capstan/rpc/certificate.h>

namespace capstan::rpc {

inline constexpr size_t MAX_INVITE_ADDRESSES = 16;
inline constexpr size_t MAX_INVITE_BYTES = MAX_CERTIFICATE_BYTES + (16 << 10);

struct Invite {
  std::vector<Address> addresses;  // 1 to MAX_INVITE_ADDRESSES; the best first
  std::string token;               // the secret's 32 bytes; empty where the server asks for none
  std::string certificate;         // PEM, of all TCP addresses; empty: they speak without TLS

  // What format() says in comments and parse() leaves alone.
  std::string label = {};
  std::optional<int64_t> expires = {};  // nanoseconds since the epoch
};

// The one line of an address. `fingerprint` is empty where there is no TLS; Unix sockets have none.
std::string inviteLine(const Address& address, std::string_view fingerprint, std::string_view token);

// The file's text. Errors: invalidArgument where parse() would not take it (no address, no certificate, a token of
// another size, a relative socket).
Result<std::string> format(const Invite& invite);

// Strict: what is not as above is invalidArgument, with the number of the line, and never with what is in it.
// `fileName` begins the sentence.
Result<Invite> parseInvite(std::string_view text, std::string_view fileName);

}  // namespace capstan::rpc
