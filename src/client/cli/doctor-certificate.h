// What `capstan doctor` looks at of the server's key and certificate for TLS.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <capstan/client/cli/doctor-finding.h>
#include <capstan/rpc/certificate.h>

namespace capstan::cli {

// `now` in seconds since the epoch, `what` for sentences: "the certificate in tls.pem". `isOwn`: the server made it.
Finding judgeCertificate(const rpc::CertificateFacts& facts, int64_t now, const std::string& what, bool isOwn);

// The server's own in the state folder, or the user's files where they are named: dates, who may read the key, and
// whether it fits. A key that is not named is in the certificate's file.
Finding lookAtCertificate(const std::string& stateFolder, const std::optional<std::string>& certificateFile,
                          const std::optional<std::string>& keyFile);

}  // namespace capstan::cli
