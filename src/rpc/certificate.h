// Keys and certificates as data: what a certificate says, and the pair that a server shows. Nothing here talks to
// anybody; that is tls.h. OpenSSL's errors become Error values, and none is left behind on the calling thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>

namespace capstan::rpc {

// The DNS name in the certificates that servers make for themselves, whatever their addresses are: addresses change,
// and clients that know the certificate need none in it.
inline constexpr const char* OWN_CERTIFICATE_NAME = "capstan";

// The file in a server's state folder that holds its own key and certificate, mode 0600.
inline constexpr const char* IDENTITY_FILE = "tls.pem";

// Enough for a chain of ten certificates with the largest keys in use.
inline constexpr size_t MAX_CERTIFICATE_BYTES = 64 << 10;

// What the first certificate of a PEM text says.
struct CertificateFacts {
  std::string fingerprint;  // SHA-256 of its SubjectPublicKeyInfo in DER: 43 characters of base64url
  std::string name;         // a DNS name that it is for; empty if there is none. Of *.example it is "any.example"
  bool isSelfSigned = false;
  bool isAuthority = false;  // it is there to sign others
  int64_t notBefore = 0;     // seconds since the epoch
  int64_t notAfter = 0;
};

// `what` begins the sentence of an error: "the certificate in tls.pem". Errors: invalidArgument where the text holds no
// certificate, something that is none, or more than MAX_CERTIFICATE_BYTES.
Result<CertificateFacts> factsOf(std::string_view pem, std::string_view what);
// Of the first certificate in the text, as in an invite.
Result<std::string> fingerprintOf(std::string_view pem);
// Each certificate of the text for itself, and nothing of what is between them (a key, say).
std::vector<std::string> certificatesIn(std::string_view pem);

// The key and the certificate that a server shows. Plain data, may cross threads.
struct TlsIdentity {
  std::string certificate;  // PEM; maybe followed by those that signed it
  std::string key;          // PEM, without a password
  std::string fingerprint;  // of the first certificate

  // A new key with a certificate that it signed itself, for OWN_CERTIFICATE_NAME.
  static Result<TlsIdentity> make();

  // The one in the state folder, which is made if there is none: servers that start at the same time end with the same.
  // A file that others may read is `denied`, with the command that mends it.
  static Result<TlsIdentity> loadOrMake(const std::string& stateFolder);

  // A user's own files: the certificate with those that signed it, and its key (maybe in the same file). Errors name
  // the file: unreadable, no certificate, a key that does not fit or has a password, expired, not valid yet.
  static Result<TlsIdentity> load(const std::string& certificateFile, const std::string& keyFile);
};

}  // namespace capstan::rpc
