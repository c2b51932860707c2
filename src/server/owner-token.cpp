#include <capstan/server/owner-token.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>

namespace capstan::server {

namespace {

// Writes a new token to `path` unless there is one: link() answers EEXIST where rename() would replace.
Status makeIfMissing(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) == 0) return okStatus();
  std::string temporary = path + ".new-" + toHex(randomBytes(6));
  auto written = writeFileAtomically(temporary, toHex(randomBytes(TOKEN_BYTES)) + "\n", 0600);
  if (!written.ok()) return written;
  int linked = link(temporary.c_str(), path.c_str());
  int reason = errno;
  unlink(temporary.c_str());
  if (linked < 0 && reason != EEXIST) return errorFromErrno(reason, "cannot make the token file", path);
  return okStatus();
}

std::string absolute(const std::string& path) {
  char buffer[PATH_MAX];
  return realpath(path.c_str(), buffer) != nullptr ? buffer : path;
}

std::string targetOf(const std::string& link) {
  char buffer[PATH_MAX];
  ssize_t length = readlink(link.c_str(), buffer, sizeof(buffer));
  return length < 0 ? std::string() : std::string(buffer, size_t(length));
}

}  // namespace

Result<OwnerToken> OwnerToken::loadOrMake(const std::string& stateFolder) {
  OwnerToken token;
  token.path = stateFolder + "/" + OWNER_TOKEN_FILE;
  auto made = makeIfMissing(token.path);
  if (!made.ok()) return made.error();

  struct stat status;
  if (stat(token.path.c_str(), &status) < 0) return errorFromErrno(errno, "cannot read the token file", token.path);
  if (status.st_uid != geteuid()) {
    return errorAt(ErrorCode::DENIED, token.path, "the token file ",
                   " belongs to another user, who may know the token; choose another folder with --state");
  }
  if ((status.st_mode & 077) != 0) {
    return errorAt(ErrorCode::DENIED, token.path, "others may read the token file ", "; run: chmod 600 on it");
  }
  auto text = readFile(token.path, 4096);
  if (!text.ok()) return text.error();
  std::string_view hex = *text;
  while (!hex.empty() && (hex.back() == '\n' || hex.back() == ' ')) hex.remove_suffix(1);
  auto secret = fromHex(hex);
  if (!secret || secret->size() != TOKEN_BYTES) {
    return errorAt(ErrorCode::CORRUPT, token.path, "the token file ",
                   " does not hold 64 hex digits; remove it, and the next start makes a new token");
  }
  token.hash = digestOf(DigestAlgorithm::SHA256, *secret);
  return token;
}

bool OwnerToken::matches(std::string_view token) const {
  return equalInConstantTime(digestOf(DigestAlgorithm::SHA256, token), hash);
}

TokenLinks::TokenLinks(const std::vector<rpc::Address>& addresses, const std::string& tokenFile)
    : target(absolute(tokenFile)) {
  for (const rpc::Address& address : addresses) {
    if (address.kind != rpc::Address::Kind::TCP) continue;
    rpc::Address dialled = address;
    if (address.host == "0.0.0.0") dialled.host = "127.0.0.1";
    if (address.host == "::") dialled.host = "::1";
    if (!dialled.isLoopback()) continue;
    std::string path = tokenLinkFor(dialled.toString());
    auto folder = makeDirectories(path.substr(0, path.rfind('/')));
    unlink(path.c_str());
    if (!folder.ok() || symlink(target.c_str(), path.c_str()) < 0) {
      log::warning("clients will not find the token for ", dialled.toString().c_str(), " by themselves: cannot make ",
                   path.c_str());
      continue;
    }
    links.push_back(path);
  }
}

TokenLinks::~TokenLinks() { remove(); }

TokenLinks& TokenLinks::operator=(TokenLinks&& other) noexcept {
  remove();
  target = std::move(other.target);
  links = std::move(other.links);
  other.links.clear();
  return *this;
}

void TokenLinks::remove() noexcept {
  for (const std::string& link : links) {
    if (targetOf(link) == target) unlink(link.c_str());
  }
  links.clear();
}

}  // namespace capstan::server
