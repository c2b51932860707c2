#include <capstan/client/cli/server-choice.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <kj/io.h>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/base/user-dirs.h>
#include <capstan/client/cli/folder-file.h>
#include <capstan/rpc/invite.h>

namespace capstan::cli {

namespace {

constexpr size_t TOKEN_FILE_LIMIT = 4096;
constexpr uint64_t LONGEST_WAIT = uint64_t(86'400) * 1'000'000'000;  // nanoseconds; a day

// Asks with a socket of the wrong type: the kernel says so (EPROTOTYPE) if somebody has bound the name, refuses if
// nobody has any more, and the server is not bothered by a connection that comes to nothing.
bool somebodyListensAt(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  memcpy(address.sun_path, path.data(), path.size());
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  kj::AutoCloseFd owner(fd);
  return connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0 && errno == EPROTOTYPE;
}

// Anybody could make a folder in /tmp before this user's server does, and listen there.
bool isOfOthers(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && status.st_uid != geteuid() && status.st_uid != 0;
}

rpc::Address defaultAddress() {
  rpc::Address address;
  if (std::string path = defaultSocketPath(); !isOfOthers(path) && somebodyListensAt(path)) {
    address.kind = rpc::Address::Kind::UNIX;
    address.path = path;
    return address;
  }
  address.host = "127.0.0.1";
  address.port = DEFAULT_PORT;
  return address;
}

Result<rpc::Address> addressOf(const ServerWish& wish) {
  if (!wish.server) return defaultAddress();
  const std::string& text = *wish.server;
  std::string shown = "\"" + escapeForTerminal(text) + "\" (from " + wish.serverFrom + ")";
  auto address = rpc::parseAddress(text);
  if (!address.ok()) {
    return Error{ErrorCode::INVALID_ARGUMENT,
                 shown + " is neither a remote of the configuration nor an address: " + address.error().message,
                 {}};
  }
  return address;
}

void warnIfOthersCanRead(const char* what, const std::string& file, std::vector<std::string>& warnings) {
  struct stat status;
  if (stat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 077) != 0) {
    warnings.push_back(std::string("others can read the ") + what + " " + escapeForTerminal(file) +
                       "; make it private with chmod 600");
  }
}

// FOLDER_CONFIG asks for what it may not have: whoever can write to the folder may have asked.
Error beyondFolder(const ServerWish& wish, const char* setting, const std::string& reason, const char* flag) {
  std::string whose = wish.remote ? " of the remote " + escapeForTerminal(*wish.remote) : "";
  return {ErrorCode::INVALID_ARGUMENT,
          std::string(FOLDER_CONFIG) + ": " + setting + whose + ": " + reason +
              ", and a folder's configuration may not have that; put it into " + escapeForTerminal(userConfigFile()) +
              ", or say " + flag,
          {}};
}

Result<std::string> readToken(const ServerWish& wish, const std::string& file, std::vector<std::string>& warnings) {
  bool isFolders = wish.tokenFile && wish.tokenOrigin == Origin::FOLDER;
  auto text = isFolders ? readFolderFile(file, TOKEN_FILE_LIMIT) : readFile(file, TOKEN_FILE_LIMIT);
  if (!text.ok() && isFolders && text.error().code == ErrorCode::INVALID_PATH) {
    return beyondFolder(wish, "token-file", text.error().message, "--token-file FILE");
  }
  if (!text.ok()) {
    Error error = text.error();
    error.message = "the token: " + error.message;
    return error;
  }
  warnIfOthersCanRead("token file", file, warnings);
  return parseToken(*text, file);
}

bool isThere(const std::string& file) {
  struct stat status;
  return stat(file.c_str(), &status) == 0;
}

// Opens everything that it is for, so it is treated as a token is.
Result<ServerChoice> readInvite(const std::string& file) {
  auto text = readFile(file, rpc::MAX_INVITE_BYTES);
  if (!text.ok()) {
    Error error = text.error();
    error.message = "the invite: " + error.message;
    // What cannot be an invite for its size is a mistake in the command line.
    if (error.code == ErrorCode::TOO_LARGE) error.code = ErrorCode::INVALID_ARGUMENT;
    return error;
  }
  auto invite = rpc::parseInvite(*text, file);
  if (!invite.ok()) return invite.error();
  ServerChoice choice;
  choice.address = std::move(invite->addresses.front());
  choice.moreAddresses.assign(invite->addresses.begin() + 1, invite->addresses.end());
  choice.token = std::move(invite->token);
  choice.security.kind = invite->certificate.empty() ? rpc::Security::Kind::PLAIN : rpc::Security::Kind::PINNED;
  choice.security.certificate = std::move(invite->certificate);
  warnIfOthersCanRead("invite", file, choice.warnings);
  return choice;
}

Result<rpc::Security> securityOf(const ServerWish& wish, const rpc::Address& address) {
  using Kind = rpc::Security::Kind;
  if (wish.insecure && wish.insecureOrigin == Origin::FOLDER && !address.isLoopback()) {
    std::string reason = escapeForTerminal(address.toString()) + " is another machine";
    return beyondFolder(wish, "insecure", reason, "--insecure");
  }
  if (wish.insecure) return rpc::Security{Kind::PLAIN, {}};
  if (!wish.certificateFile) return rpc::Security{};
  auto text = readFile(*wish.certificateFile, rpc::MAX_CERTIFICATE_BYTES);
  if (!text.ok()) return text.error();
  auto facts = rpc::factsOf(*text, "the certificate in " + escapeForTerminal(*wish.certificateFile));
  if (!facts.ok()) return facts.error();
  return rpc::Security{Kind::PINNED, std::move(*text)};
}

// Where there is no invite.
Result<ServerChoice> chooseAddress(const ServerWish& wish) {
  auto address = addressOf(wish);
  if (!address.ok()) return address.error();
  auto security = securityOf(wish, *address);
  if (!security.ok()) return security.error();
  ServerChoice choice;
  choice.address = std::move(*address);
  choice.security = std::move(*security);
  return choice;
}

// This user's own token is for servers on this machine. Whether it is this user's server that listens there, so that it
// may be sent, is for the client to see when it has connected.
std::optional<std::string> ownTokenFile(const rpc::Address& address) {
  if (address.kind == rpc::Address::Kind::UNIX || !address.isLoopback()) return std::nullopt;
  for (auto& alias : aliasesOf(address)) {
    std::string link = tokenLinkFor(alias.toString());
    if (isThere(link)) return link;
  }
  std::string file = userStateFolder() + "/" + OWNER_TOKEN_FILE;
  return isThere(file) ? std::optional(file) : std::nullopt;
}

}  // namespace

Result<ServerChoice> chooseServer(const ServerWish& wish) {
  bool isInvite = wish.server && wish.server->starts_with('@');
  auto choice = isInvite ? readInvite(wish.server->substr(1)) : chooseAddress(wish);
  if (!choice.ok()) return choice;
  choice->withheld = wish.warnings;
  choice->timeout = wish.timeout;
  if (isInvite && !choice->token.empty() && !wish.tokenIsAsked) return choice;
  choice->tokenIsOwn = !wish.tokenFile && !isInvite;
  auto file = choice->tokenIsOwn ? ownTokenFile(choice->address) : wish.tokenFile;
  if (file && choice->tokenIsOwn && wish.addressOrigin == Origin::FOLDER) {
    choice->withheld.push_back(std::string("this user's own token is not sent to a server that ") + FOLDER_CONFIG +
                               " names; name the server with --server or in " + escapeForTerminal(userConfigFile()) +
                               ", or the token with --token-file");
    return choice;
  }
  if (file) {
    auto token = readToken(wish, *file, choice->warnings);
    if (!token.ok()) return token.error();
    choice->token = std::move(*token);
  }
  return choice;
}

client::Options clientOptionsOf(const ServerChoice& choice) {
  client::Options options;
  options.address = choice.address;
  options.moreAddresses = choice.moreAddresses;
  options.security = choice.security;
  // Whoever says how long a command may take is ready to wait so long for an answer.
  options.answerTimeout = std::min(choice.timeout, LONGEST_WAIT);
  options.token = choice.token;
  options.tokenIsOwn = choice.tokenIsOwn && !choice.token.empty();
  return options;
}

Result<std::string> parseToken(std::string_view text, std::string_view file) {
  constexpr std::string_view SPACE = " \t\r\n";
  size_t begin = text.find_first_not_of(SPACE);
  if (begin != std::string_view::npos) text = text.substr(begin, text.find_last_not_of(SPACE) - begin + 1);
  auto token = fromHex(text);
  if (!token || token->size() != TOKEN_BYTES) {
    return errorAt(ErrorCode::INVALID_ARGUMENT, file, "there is no token in ", ": it holds 64 hex digits");
  }
  return std::move(*token);
}

std::vector<rpc::Address> aliasesOf(const rpc::Address& address) {
  std::vector<rpc::Address> aliases{address};
  if (address.kind == rpc::Address::Kind::TCP && address.host == "localhost") {
    for (const char* host : {"127.0.0.1", "::1"}) {
      aliases.push_back(address);
      aliases.back().host = host;
    }
  }
  return aliases;
}

}  // namespace capstan::cli
