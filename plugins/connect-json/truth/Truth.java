// What Kafka Connect's own JsonConverter reads, and what schema it infers; and the decimals of envelopes, in both formats. From this folder, with Java 17:
//   java -cp "../../../.lab/kafka/libs/*" Truth.java envelopes.json values.json > truth.jsonl
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.data.Values;
import org.apache.kafka.connect.json.JsonConverter;

public class Truth {
    private static final ObjectMapper JSON = new ObjectMapper()
            .enable(com.fasterxml.jackson.databind.DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .setNodeFactory(com.fasterxml.jackson.databind.node.JsonNodeFactory.withExactBigDecimals(true));

    public static void main(String[] arguments) throws Exception {
        JsonConverter with = converter(true, "BASE64");
        JsonConverter numeric = converter(true, "NUMERIC");
        for (JsonNode envelope : JSON.readTree(new File(arguments[0]))) {
            ObjectNode answer = JSON.createObjectNode();
            answer.set("envelope", envelope);
            try {
                SchemaAndValue read = with.toConnectData("t", JSON.writeValueAsBytes(envelope));
                answer.set("written", JSON.readTree(with.fromConnectData("t", read.schema(), read.value())));
                if (envelope.toString().contains("data.Decimal"))
                    answer.set("numeric", JSON.readTree(numeric.fromConnectData("t", read.schema(), read.value())).get("payload"));
            } catch (Exception why) {
                answer.put("refused", String.valueOf(why.getMessage()));
            }
            System.out.println(answer);
        }
        JsonConverter without = converter(false, "BASE64");
        for (JsonNode value : JSON.readTree(new File(arguments[1]))) {
            ObjectNode answer = JSON.createObjectNode();
            answer.set("value", value);
            Object read = without.toConnectData("t", JSON.writeValueAsBytes(value)).value();
            try {
                Schema schema = Values.inferSchema(read);
                answer.set("inferred", schema == null ? JSON.nullNode() : with.asJsonSchema(schema));
            } catch (Exception why) {
                answer.set("inferred", JSON.nullNode());
            }
            System.out.println(answer);
        }
    }

    private static JsonConverter converter(boolean schemas, String decimals) {
        JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", String.valueOf(schemas), "decimal.format", decimals), false);
        return converter;
    }
}
