// The owner's token: the secret that opens everything, made at the first start, kept in a file that only its owner may
// read, and known to the running server as a hash.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/rpc/address.h>

namespace capstan::server {

// Immutable; thread-safe.
class OwnerToken {
 public:
  // Reads the token in the state folder, or makes one: servers that start at the same time end with the same. A file
  // that others may read is `denied`, with the command that mends it.
  static Result<OwnerToken> loadOrMake(const std::string& stateFolder);

  // Whether these are the secret's 32 bytes. Takes the same time for every wrong token.
  bool matches(std::string_view token) const;

  const std::string& file() const { return path; }
  const std::string& sha256() const { return hash; }  // of the secret, 32 bytes

 private:
  std::string path;
  std::string hash;  // SHA-256 of the secret
};

// The links by which clients of the same user find the token of a server at a loopback address (base/user-dirs.h).
// Removes them when it is destroyed, as far as they still point to this server's token.
class TokenLinks {
 public:
  TokenLinks() = default;
  TokenLinks(const std::vector<rpc::Address>& addresses, const std::string& tokenFile);
  ~TokenLinks();
  TokenLinks(TokenLinks&&) noexcept = default;
  TokenLinks& operator=(TokenLinks&& other) noexcept;

 private:
  std::string target;
  std::vector<std::string> links;

  void remove() noexcept;
};

}  // namespace capstan::server
