import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.apache.kafka.connect.transforms.Transformation;

/** Passes every record of a file through every transformation of another, with Kafka Connect itself: README.md. */
public class Truth {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final SimpleHeaderConverter HEADERS = new SimpleHeaderConverter();

    public static void main(String[] files) throws Exception {
        JsonNode steps = JSON.readTree(new File(files[0]));
        JsonNode records = JSON.readTree(new File(files[1]));
        StringBuilder answers = new StringBuilder();
        for (int step = 0; step < steps.size(); step++) {
            for (int record = 0; record < records.size(); record++) {
                ObjectNode answer = JSON.createObjectNode();
                answer.put("step", step);
                answer.put("record", record);
                answer.setAll(answer(steps.get(step), records.get(record)));
                answers.append(JSON.writeValueAsString(answer)).append('\n');
            }
        }
        System.out.print(answers);
    }

    private static ObjectNode answer(JsonNode step, JsonNode record) throws Exception {
        Map<String, String> settings = new HashMap<>();
        step.properties().forEach(entry -> settings.put(entry.getKey(), entry.getValue().asText()));
        ObjectNode answer = JSON.createObjectNode();
        String type = "org.apache.kafka.connect.transforms." + settings.remove("type");
        Transformation<SinkRecord> transformation;
        try {
            @SuppressWarnings("unchecked")
            Transformation<SinkRecord> made =
                (Transformation<SinkRecord>) Class.forName(type).getDeclaredConstructor().newInstance();
            transformation = made;
            transformation.configure(settings);
        } catch (RuntimeException wrong) {
            return answer.put("settings", String.valueOf(wrong.getMessage()));
        }
        try {
            SinkRecord made = transformation.apply(read(record));
            return made == null ? answer.put("dropped", true) : written(made, record);
        } catch (RuntimeException wrong) {
            return answer.put("refused", String.valueOf(wrong.getMessage()));
        }
    }

    private static SinkRecord read(JsonNode record) {
        boolean schemas = record.path("schemas").asBoolean();
        String topic = record.path("topic").asText("orders");
        SchemaAndValue key = converter(schemas, true).toConnectData(topic, bytes(record.get("key")));
        SchemaAndValue value = converter(schemas, false).toConnectData(topic, bytes(record.get("value")));
        Long timestamp = record.has("timestamp") ? record.get("timestamp").asLong() : null;
        SinkRecord read = new SinkRecord(topic, 3, key.schema(), key.value(), value.schema(), value.value(), 42L,
            timestamp, TimestampType.CREATE_TIME);
        for (JsonNode header : record.path("headers")) {
            SchemaAndValue content = HEADERS.toConnectHeader(topic, header.get(0).asText(), bytes(header.get(1)));
            read.headers().add(header.get(0).asText(), content);
        }
        return read;
    }

    private static ObjectNode written(SinkRecord made, JsonNode record) {
        boolean schemas = record.path("schemas").asBoolean();
        ObjectNode answer = JSON.createObjectNode();
        answer.put("topic", made.topic());
        answer.put("key", text(converter(schemas, true).fromConnectData(made.topic(), made.keySchema(), made.key())));
        answer.put("value",
            text(converter(schemas, false).fromConnectData(made.topic(), made.valueSchema(), made.value())));
        for (Header header : made.headers()) {
            byte[] content = HEADERS.fromConnectHeader(made.topic(), header.key(), header.schema(), header.value());
            answer.withArray("headers").addArray().add(header.key()).add(text(content));
        }
        return answer;
    }

    private static JsonConverter converter(boolean schemas, boolean isKey) {
        JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", String.valueOf(schemas)), isKey);
        return converter;
    }

    private static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : text.asText().getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }
}
