package contenttype

const (
	hl7        = "application/hl7-v2"
	ediUnknown = "application/edi-consent"
)

// interchange holds the extensions that several standards of data interchange share: the content tells which.
var interchange = map[string]bool{"edi": true, "x12": true, "edifact": true, "edf": true, "837": true, "835": true, "850": true, "810": true, "856": true}

// byExtension holds what is known without a look at the content. An extension that stands for several kinds of
// file (dat, bin, out, raw, …) is left out on purpose: its content says more than its name.
var byExtension = map[string]string{
	// Text and tables.
	"txt": "text/plain", "text": "text/plain", "log": "text/plain", "asc": "text/plain", "ini": "text/plain",
	"cfg": "text/plain", "conf": "text/plain", "prn": "text/plain", "lis": "text/plain", "lst": "text/plain",
	"csv": "text/csv", "tsv": "text/tab-separated-values", "tab": "text/tab-separated-values",
	"md": "text/markdown", "htm": "text/html", "html": "text/html", "css": "text/css", "js": "text/javascript",
	"ics": "text/calendar", "vcf": "text/vcard", "rtf": "application/rtf",

	// Structured data.
	"xml": "application/xml", "xsd": "application/xml", "xsl": "application/xslt+xml", "xslt": "application/xslt+xml",
	"json": "application/json", "jsonl": "application/jsonl", "ndjson": "application/x-ndjson",
	"geojson": "application/geo+json", "yaml": "application/yaml", "yml": "application/yaml", "toml": "application/toml",
	"sql": "application/sql", "parquet": "application/vnd.apache.parquet", "avro": "application/vnd.apache.avro",
	"sqlite": "application/vnd.sqlite3", "sqlite3": "application/vnd.sqlite3", "dbf": "application/vnd.dbf",
	"mdb": "application/vnd.ms-access", "h5": "application/x-hdf5", "hdf5": "application/x-hdf5",

	// Health care.
	"hl7": hl7, "er7": hl7, "dcm": "application/dicom", "dicom": "application/dicom",
	"cda": "application/xml", "ccda": "application/xml", "fhir": "application/fhir+json",

	// Banking and trade.
	"mt940": "text/plain", "sta": "text/plain", "bai": "text/plain", "bai2": "text/plain", "ofx": "application/x-ofx",
	"idoc": "text/plain",

	// Documents.
	"pdf": "application/pdf", "ps": "application/postscript", "eps": "application/postscript",
	"doc": "application/msword", "dot": "application/msword", "xls": "application/vnd.ms-excel",
	"ppt": "application/vnd.ms-powerpoint", "msg": "application/vnd.ms-outlook", "eml": "message/rfc822",
	"docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	"docm": "application/vnd.ms-word.document.macroenabled.12", "xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
	"xlsb": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
	"odt":  "application/vnd.oasis.opendocument.text", "ods": "application/vnd.oasis.opendocument.spreadsheet",
	"odp": "application/vnd.oasis.opendocument.presentation", "epub": "application/epub+zip",
	"pcl": "application/vnd.hp-pcl", "xps": "application/vnd.ms-xpsdocument", "oxps": "application/oxps",
	"zpl": "application/vnd.zpl",

	// Pictures.
	"jpg": "image/jpeg", "jpeg": "image/jpeg", "jpe": "image/jpeg", "jfif": "image/jpeg", "png": "image/png",
	"gif": "image/gif", "bmp": "image/bmp", "dib": "image/bmp", "tif": "image/tiff", "tiff": "image/tiff",
	"webp": "image/webp", "heic": "image/heic", "heif": "image/heif", "avif": "image/avif", "ico": "image/vnd.microsoft.icon",
	"svg": "image/svg+xml", "jp2": "image/jp2", "psd": "image/vnd.adobe.photoshop",

	// Drawings and models.
	"dxf": "image/vnd.dxf", "dwg": "image/vnd.dwg", "stp": "model/step", "step": "model/step", "stl": "model/stl",
	"igs": "model/iges", "iges": "model/iges", "3mf": "model/3mf", "gcode": "text/x-gcode", "nc": "text/x-gcode",

	// Sound and film.
	"wav": "audio/wav", "mp3": "audio/mpeg", "m4a": "audio/mp4", "ogg": "audio/ogg", "oga": "audio/ogg",
	"flac": "audio/flac", "aac": "audio/aac", "opus": "audio/ogg", "amr": "audio/amr", "mp4": "video/mp4", "m4v": "video/mp4",
	"mov": "video/quicktime", "avi": "video/x-msvideo", "mkv": "video/matroska", "webm": "video/webm",
	"mpg": "video/mpeg", "mpeg": "video/mpeg", "wmv": "video/x-ms-wmv", "h264": "video/h264", "265": "video/h265",

	// Archives and what is packed, sealed or signed.
	"zip": "application/zip", "gz": "application/gzip", "tgz": "application/gzip", "tar": "application/x-tar",
	"bz2": "application/x-bzip2", "xz": "application/x-xz", "zst": "application/zstd", "7z": "application/x-7z-compressed",
	"rar": "application/vnd.rar", "lz4": "application/x-lz4", "z": "application/x-compress", "cab": "application/vnd.ms-cab-compressed",
	"jar": "application/java-archive", "iso": "application/x-iso9660-image",
	"pgp": "application/pgp-encrypted", "gpg": "application/pgp-encrypted", "sig": "application/pgp-signature",
	"p7m": "application/pkcs7-mime", "p7s": "application/pkcs7-signature", "p7b": "application/x-pkcs7-certificates",
	"p12": "application/x-pkcs12", "pfx": "application/x-pkcs12", "pem": "application/x-pem-file",
	"crt": "application/x-x509-ca-cert", "cer": "application/pkix-cert", "csr": "application/pkcs10",
	"md5": "text/plain", "sha1": "text/plain", "sha256": "text/plain",
}
