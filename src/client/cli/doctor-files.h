// What `capstan doctor` looks at in the state folder: whose it is, who may enter it, and who may read the secrets in
// it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include <capstan/client/cli/doctor-finding.h>

namespace capstan::cli {

// Whose files are right: this user's; for root, who looks after others' services, whoever has the state folder.
uid_t expectedOwnerOf(const std::string& stateFolder);

// A folder that is not there yet is fine: the first start makes it.
Finding lookAtState(const std::string& folder);

// A file that nobody but `owner` may read. `what` begins the sentence: "the owner's token". Nothing where there is none
// and none is `needed`.
std::optional<Finding> lookAtSecret(const std::string& check, const std::string& what, const std::string& path,
                                    uid_t owner, bool needed);

// The owner's token: the file, and whether it holds a token.
Finding lookAtOwnerToken(const std::string& stateFolder);

}  // namespace capstan::cli
